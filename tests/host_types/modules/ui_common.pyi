from collections.abc import Callable
from typing import Any

import gradio as gr

def create_refresh_button(
    refresh_component: gr.Component,
    refresh_method: Callable[[], object],
    refreshed_args: Callable[[], dict[str, Any]],
    elem_id: str | None,
) -> gr.Component: ...
