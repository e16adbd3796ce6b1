"""Axes of the X/Y/Z plot for the model, the detector and every declared option."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from modules import scripts

from gpen_core import Option

from . import controls, engine
from .option_widgets import OPTIONS

LABEL = "[GPEN] "


def add() -> None:
    """Add the axes once, if the host has the X/Y/Z plot."""
    for data in getattr(scripts, "scripts_data", []):
        plot = data.module
        if data.script_class.__module__.rpartition(".")[0].endswith("xyz_grid") or hasattr(plot, "axis_options"):
            if not any(option.label.startswith(LABEL) for option in plot.axis_options):
                plot.axis_options += _axes(plot.AxisOption)
            return


def _axes(axis: Any) -> list[Any]:
    files = {"model": engine.model_choices, "detector": engine.available_detectors}
    named = [
        axis(f"{LABEL}{name.title()}", str, partial(_apply, name), confirm=partial(_confirm, name), choices=choices)
        for name, choices in files.items()
    ]
    return [*named, *(_option_axis(axis, option) for option in OPTIONS.values())]


def _option_axis(axis: Any, option: Option) -> Any:
    spec = option.spec
    kind = str if spec.minimum is None else (int if spec.is_whole else float)
    choices = spec.choices or spec.suggestions
    more = {"choices": lambda: list(choices)} if choices else {}
    confirm = partial(_confirm, option.name)
    return axis(f"{LABEL}{spec.label}", kind, partial(_apply, option.name), confirm=confirm, **more)


def _confirm(name: str, p: Any, values: Sequence[Any]) -> None:
    """Check the values of an axis. The host calls this before it generates anything, and shows the error."""
    for value in values:
        parsed = controls.parse_values(**{name: value})
        if name == "model":
            controls.check_model(parsed.model)


def _apply(name: str, p: Any, value: Any, values: Any) -> None:
    p.gpen_xyz = {**getattr(p, "gpen_xyz", {}), name: value}
