"""The "Self-test" button in our section of the settings, which tests the device and precision."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr
from modules import shared

from . import engine, host

TITLE = "Self-test"
EXPLANATION = (
    "Restores one face with demonstration weights, using the host's device and the applied precision. Nothing is downloaded "
    "or saved."
)
ADVICE = "Try the precision fp32, then the start option --use-cpu gpen. See the Trouble page of the documentation."


def option(section: tuple[str, str]) -> shared.OptionInfo:
    """Return a line of the settings page that holds no setting: like the hosts' own explanations, it is never saved."""
    info = shared.OptionInfo(EXPLANATION, TITLE, build, section=section)
    info.do_not_save = True
    return info


def build(**made_with: Any) -> gr.HTML:
    """Build the button. Return the text as the component of the setting: it never changes, so SD.Next does not save it."""
    explained = gr.HTML(**made_with)
    button = gr.Button(TITLE, elem_id="gpen_self_test")
    output = gr.HTML("", elem_id="gpen_self_test_said")
    button.click(fn=run, inputs=[], outputs=[output])
    return explained


def run() -> str:
    """Run the test when the host is idle. Log the result and return it as HTML."""
    with host.queued():
        result = engine.self_test()
    line, advice = f"self-test: {result.text.rstrip('.')}.", "" if result.passed else ADVICE
    (host.log.info if result.passed else host.log.error)("GPEN %s", f"{line} {advice}".rstrip())
    return html.escape(line) + (f" <span>{html.escape(advice)}</span>" if advice else "")
