"""Writes GPEN's options into an image's parameters, and reads them back into the controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gpen_core import DETECTORS, FaceReference, GpenError, Option, base_selection

from . import controls, engine
from .controls import USE_SETTING, ControlValues
from .option_widgets import FRONT_END, OPTIONS, format_value, to_widget

Reader = Callable[[Mapping[str, Any]], Any]

MODEL, FACES, DETECTOR, ONLY_SWAPPED = "GPEN model", "GPEN faces", "GPEN detector", "GPEN only swapped"
FAILED, REFERENCE, LEAVE_OUT = "GPEN failed", "GPEN reference", "GPEN leave out"
WRITTEN = {name: option for name, option in OPTIONS.items() if option.spec.infotext}
KEYS = (
    MODEL,
    FACES,
    *(option.spec.infotext for option in WRITTEN.values()),
    DETECTOR,
    ONLY_SWAPPED,
    REFERENCE,
    LEAVE_OUT,
    FAILED,
)


def format_infotext(values: ControlValues, restored_count: int) -> dict[str, Any]:
    """Return the model, the number of restored faces, and the options that differ from this host's defaults."""
    entries: dict[str, Any] = {MODEL: values.model, FACES: restored_count}
    for name, option in WRITTEN.items():
        value = base_selection(values.options.faces) if name == "faces" else getattr(values.options, name)
        if value != option.default_for(FRONT_END):
            entries[option.spec.infotext] = format_value(value)
    if values.detector != DETECTORS[0]:
        entries[DETECTOR] = values.detector
    if values.only_swapped:
        entries[ONLY_SWAPPED] = True
    for part in values.options.faces:
        if isinstance(part, FaceReference):
            entries[LEAVE_OUT if part.is_excluded else REFERENCE] = True
    return entries


def format_failure(model: Any, reason: str, values: ControlValues | None) -> dict[str, Any]:
    """Return the entries for a failure; `reason` is a few words. `values` is None if one of them is invalid."""
    entries = {MODEL: str(model or controls.default_model()), FACES: 0, FAILED: reason}
    return entries if values is None else {**entries, **format_infotext(values, 0)}


def apply(parameters: dict[str, Any], entries: Mapping[str, Any]) -> None:
    """Replace all GPEN entries of `parameters`, which the images of a batch share."""
    for key in KEYS:
        parameters.pop(key, None)
    parameters.update(entries)


def fields(parts: Mapping[str, Any]) -> list[tuple[Any, str | Reader]]:
    """Return each control with its key or reader. A reader returns None for images without GPEN; the control then stays."""
    readers: dict[str, str | Reader] = {
        "enable": lambda parameters: MODEL in parameters,
        "model": MODEL,
        "detector": _if_gpen(_read_detector),
        "only_swapped": _if_gpen(lambda parameters: str(parameters.get(ONLY_SWAPPED)) == "True"),
    }
    readers |= {name: _if_gpen(partial(_read_option, option)) for name, option in WRITTEN.items()}
    return [(parts[name], reader) for name, reader in readers.items()]


def _if_gpen(read: Reader) -> Reader:
    return lambda parameters: read(parameters) if MODEL in parameters else None


def _read_option(option: Option, parameters: Mapping[str, Any]) -> Any:
    """Return the value in the control's format, or None for invalid text."""
    spec, default = option.spec, option.default_for(FRONT_END)
    value = parameters.get(spec.infotext, default)
    try:
        if spec.minimum is not None and isinstance(value, str):  # sliders need numbers
            value = int(float(value)) if spec.is_whole else float(value)
        return to_widget(spec, spec.validate(option.name, value, default))
    except (GpenError, ValueError, OverflowError):
        return None


def _read_detector(parameters: Mapping[str, Any]) -> str:
    """Return the detector. The default is not written into images, so it is named if the setting differs."""
    used = str(parameters.get(DETECTOR, DETECTORS[0]))
    return USE_SETTING if used == engine.default_detector() or used not in engine.available_detectors() else used
