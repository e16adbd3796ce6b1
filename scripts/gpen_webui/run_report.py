"""Text that stays below the result of the Extras page: what went wrong in the run, or is to be known of it."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr
from modules import shared

RUN_LOG = "html_log_extras"  # the host's line below the images, which changes at the end of each run
LINES_ID = "gpen_report_extras"

_run: object = None
_lines: list[tuple[str, ...]] = []


def add(*line: str) -> None:
    """Says it once in a run; a line may be several texts, see `paragraph`."""
    global _run
    if _run != (run := getattr(shared.state, "job_timestamp", None)):
        _run = run
        _lines.clear()
    if line not in _lines:
        _lines.append(line)


def paragraph(*texts: str) -> str:
    """HTML of texts, whose long words (paths, digests) wrap. Each is an element of its own: the host's localization
    translates those that it knows as a whole."""
    spans = " ".join(f"<span>{html.escape(text)}</span>" for text in texts)
    return f"<p style='overflow-wrap: anywhere'>{spans}</p>"


def lines_html() -> str:
    """HTML: what was said in the latest run; empty where that had nothing to say."""
    lines = _lines if _run == getattr(shared.state, "job_timestamp", None) else []
    return "".join(paragraph(*line) for line in lines)


def on_component(component: Any, **made_with: Any) -> None:
    """The host tells of each of its components: ours goes below the line of its log."""
    if made_with.get("elem_id") == RUN_LOG:
        lines = gr.HTML("", elem_id=LINES_ID)
        component.change(fn=lines_html, inputs=[], outputs=[lines], show_progress=False)
