"""Maps declared options to gradio components, and converts their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from gpen_core import Option, OptionSpec, RestoreOptions, declared_options

from . import host

FRONT_END = "a1111"
SETTING_GROUPS = ("look", "detection")
"""Groups whose options have a default in the settings. The selection of faces differs for each image."""

OPTIONS: Mapping[str, Option] = {option.name: option for option in declared_options(RestoreOptions, FRONT_END)}
"""The options of this host, by name."""


def widget(spec: OptionSpec) -> tuple[Any, dict[str, Any]]:
    """Return the gradio component of an option and its arguments other than label and value."""
    if spec.multiple:
        return gr.CheckboxGroup, {"choices": list(spec.choices)}
    if spec.choices:
        return gr.Dropdown, {"choices": list(spec.choices)}
    if spec.suggestions:
        return gr.Dropdown, {"choices": list(spec.suggestions), "allow_custom_value": True}
    if spec.minimum is None:
        return gr.Textbox, {"placeholder": spec.placeholder}
    if spec.maximum is None:
        return gr.Number, {"minimum": spec.minimum}
    return gr.Slider, {"minimum": spec.minimum, "maximum": spec.maximum, "step": spec.step}


def has_setting(option: Option) -> bool:
    """Return whether the user can set the default on the settings page."""
    return option.spec.group in SETTING_GROUPS


def default_value(option: Option) -> Any:
    """Return the default from the settings if there is one, else this host's declared default."""
    default = option.default_for(FRONT_END)
    return host.option(option.name, default) if has_setting(option) else default


def to_widget(spec: OptionSpec, value: Any) -> Any:
    """Convert an option's value to the value of its component."""
    if spec.multiple:
        return [part for part in value.split(",") if part] if isinstance(value, str) else list(value)
    if spec.minimum is not None and value is None:
        return spec.minimum
    return value if spec.minimum is not None else format_value(value)


def from_widget(option: Option, value: Any) -> Any:
    """Convert a value from a component or API client for `RestoreOptions`. None and empty text become the default."""
    if value is None or (value == "" and not option.spec.multiple):
        value = default_value(option)
    is_whole = option.spec.is_whole and isinstance(value, float) and value.is_integer()
    return int(value) if is_whole else value  # sliders may give 3.0


def format_value(value: Any) -> Any:
    """Format a value for an image's parameters: `0,2-4`, `eyes,mouth`, 0.5."""
    if isinstance(value, tuple) and all(isinstance(one, int) for one in value):
        return ",".join(_ranges(value))
    if isinstance(value, (tuple, list)):
        return ",".join(value)
    return round(value, 3) if isinstance(value, float) else value


def _ranges(numbers: tuple[int, ...]) -> list[str]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
