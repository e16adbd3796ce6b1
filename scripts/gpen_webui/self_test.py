"""The button "Self-test" in our section of the settings: does it work here, with this device and precision?"""

from __future__ import annotations

import html
from typing import Any

import gradio as gr
from modules import shared

from . import engine, host

TITLE = "Self-test"
EXPLANATION = (
    "Restores one face with demonstration weights, on this host's device and in the precision that was applied. Nothing is "
    "downloaded or saved."
)
ADVICE = "Try the precision fp32, then the start option --use-cpu gpen; the documentation's page Trouble says more."


def option(section: tuple[str, str]) -> shared.OptionInfo:
    """A line of the settings that is none: as with the hosts' own explanations there, nothing of it is set or saved."""
    info = shared.OptionInfo(EXPLANATION, TITLE, build, section=section)
    info.do_not_save = True
    return info


def build(**made_with: Any) -> gr.HTML:
    """What the host takes for the setting's component never changes: SD.Next saves what does."""
    explained = gr.HTML(**made_with)
    button = gr.Button(TITLE, elem_id="gpen_self_test")
    output = gr.HTML("", elem_id="gpen_self_test_said")
    button.click(fn=run, inputs=[], outputs=[output])
    return explained


def run() -> str:
    """HTML: one line that says what came of it, in the log, too. It waits until the host has nothing else in hand."""
    with host.queued():
        result = engine.self_test()
    line, advice = f"self-test: {result.text.rstrip('.')}.", "" if result.passed else ADVICE
    (host.log.info if result.passed else host.log.error)("GPEN %s", f"{line} {advice}".rstrip())
    return html.escape(line) + (f" <span>{html.escape(advice)}</span>" if advice else "")
