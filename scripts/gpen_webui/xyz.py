"""Axes of the X/Y/Z plot: GPEN's visibility and model."""

from __future__ import annotations

from typing import Any

from modules import scripts

from . import engine

LABEL = "[GPEN] "


def add() -> None:
    """Adds them once to the plot's list, where the host has one."""
    for data in getattr(scripts, "scripts_data", []):
        plot = data.module
        if data.script_class.__module__.rpartition(".")[0].endswith("xyz_grid") or hasattr(plot, "axis_options"):
            if not any(option.label.startswith(LABEL) for option in plot.axis_options):
                plot.axis_options.append(plot.AxisOption(f"{LABEL}Visibility", float, _set("visibility")))
                plot.axis_options.append(plot.AxisOption(f"{LABEL}Model", str, _set("model"), choices=engine.choices))
            return


def _set(name: str) -> Any:
    def apply(p: Any, value: Any, values: Any) -> None:
        p.gpen_xyz = {**getattr(p, "gpen_xyz", {}), name: value}

    return apply
