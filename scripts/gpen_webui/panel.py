"""The accordion around our controls, with the checkbox that turns GPEN on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from modules import ui_components

from . import host

ENABLE_LABEL = "Restore faces with GPEN"


@contextmanager
def panel(label: str, elem_id: str | None = None, in_accordion: bool = False) -> Iterator[Any]:
    """Build the accordion and yield the checkbox. In SD.Next, the checkbox of an InputAccordion is never visible.

    `in_accordion` tells that SD.Next adds an accordion of that label around this itself."""
    if not host.is_sdnext():
        with ui_components.InputAccordion(False, label=label, elem_id=elem_id) as enable:
            yield enable
    elif in_accordion:
        yield gr.Checkbox(label=ENABLE_LABEL, value=False)
    else:
        with gr.Accordion(label, open=False):
            yield gr.Checkbox(label=ENABLE_LABEL, value=False)
