"""Errors and notes of a run, shown below the result on the Extras page."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr
from modules import shared

RUN_LOG = "html_log_extras"  # id of the host's text below the images, which changes at the end of each run
LINES_ID = "gpen_report_extras"
GENERATE = "extras_generate"  # id of the host's button that starts a run
CLEAR = "() => ['']"  # JavaScript

_run: object = None
_lines: list[tuple[str, ...]] = []
_host_parts: dict[str, Any] = {}


def add(*line: str) -> None:
    """Add a line once per run. A line may consist of several texts, see `paragraph`."""
    global _run
    if _run != (run := getattr(shared.state, "job_timestamp", None)):
        _run = run
        _lines.clear()
    if line not in _lines:
        _lines.append(line)


def paragraph(*texts: str) -> str:
    """Return HTML in which long words (paths, digests) wrap. Each text has its own element, because the host's
    localization translates whole elements."""
    spans = " ".join(f"<span>{html.escape(text)}</span>" for text in texts)
    return f"<p style='overflow-wrap: anywhere'>{spans}</p>"


def lines_html() -> str:
    """Return the lines of the latest run as HTML, or an empty string."""
    lines = _lines if _run == getattr(shared.state, "job_timestamp", None) else []
    return "".join(paragraph(*line) for line in lines)


def reset() -> None:
    """Forget the components of the last page, because the host builds a new one."""
    _host_parts.clear()


def on_component(component: Any, **made_with: Any) -> None:
    """The host calls this for each of its components. Add our lines below its log, and update them after each run.

    Each run writes its duration into the log. The log is emptied first: with the same duration as before, it would not
    change."""
    name = made_with.get("elem_id")
    if name not in (RUN_LOG, GENERATE):
        return
    _host_parts[name] = component
    if name == RUN_LOG:
        lines = gr.HTML("", elem_id=LINES_ID)
        component.change(fn=lines_html, inputs=[], outputs=[lines], show_progress=False)
    if len(_host_parts) == 2:
        _host_parts[GENERATE].click(fn=None, inputs=[], outputs=[_host_parts[RUN_LOG]], _js=CLEAR)
