"""Axes of the X/Y/Z plot: GPEN's strength, model, faces, mask type, color and grain."""

from __future__ import annotations

from typing import Any

from modules import scripts

from gpen_core import COLORS, FACE_CHOICES, MASK_TYPES

from . import engine
from .controls import BY_NUMBER

LABEL = "[GPEN] "


def add() -> None:
    """Adds them once to the plot's list, where the host has one."""
    for data in getattr(scripts, "scripts_data", []):
        plot = data.module
        if data.script_class.__module__.rpartition(".")[0].endswith("xyz_grid") or hasattr(plot, "axis_options"):
            if not any(option.label.startswith(LABEL) for option in plot.axis_options):
                plot.axis_options += _axes(plot.AxisOption)
            return


def _axes(option: Any) -> list[Any]:
    return [
        option(f"{LABEL}Strength", float, _set("strength")),
        option(f"{LABEL}Model", str, _set("model"), choices=engine.model_choices),
        option(f"{LABEL}Faces", str, _set_faces, choices=lambda: list(FACE_CHOICES)),
        option(f"{LABEL}Mask type", str, _set("mask_type"), choices=lambda: list(MASK_TYPES)),
        option(f"{LABEL}Color", str, _set("color"), choices=lambda: list(COLORS)),
        option(f"{LABEL}Grain", float, _set("grain")),
    ]


def _set(name: str) -> Any:
    def apply(p: Any, value: Any, values: Any) -> None:
        p.gpen_xyz = {**getattr(p, "gpen_xyz", {}), name: value}

    return apply


def _set_faces(p: Any, value: Any, values: Any) -> None:
    """A choice, or numbers such as "0,2-4"."""
    chosen = {"faces": value} if value in FACE_CHOICES else {"faces": BY_NUMBER, "numbers": value}
    p.gpen_xyz = {**getattr(p, "gpen_xyz", {}), **chosen}
