"""What an image's parameters say of GPEN, and how they come back into the controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gpen_core import DETECTORS, FACE_CHOICES

from . import controls, engine, host
from .controls import BY_NUMBER, DEFAULTS, USE_SETTING, ControlValues

Reader = Callable[[Mapping[str, Any]], Any]

MODEL, STRENGTH, FACES = "GPEN model", "GPEN strength", "GPEN faces"
SELECTION, DETECTOR = "GPEN selection", "GPEN detector"
ONLY_SWAPPED = "GPEN only swapped"
OPTIONS = {  # by the control's name, which is the option's
    "order": "GPEN order",
    "min_face_size": "GPEN min face size",
    "mask_type": "GPEN mask type",
    "color": "GPEN color",
    "confidence": "GPEN confidence",
    "max_faces": "GPEN max faces",
    "preserve": "GPEN preserve",
    "mask_expand": "GPEN mask expand",
    "grain": "GPEN grain",
}
KEYS = (MODEL, STRENGTH, FACES, SELECTION, DETECTOR, ONLY_SWAPPED, *OPTIONS.values())


def format_infotext(values: ControlValues, restored_count: int) -> dict[str, Any]:
    """Model, strength, faces restored, and what differs from gpen_core's defaults."""
    options = values.options
    entries: dict[str, Any] = {MODEL: values.model, STRENGTH: round(values.strength, 3), FACES: restored_count}
    if values.selection != DEFAULTS.faces:
        entries[SELECTION] = values.selection
    for name, key in OPTIONS.items():
        value = getattr(options, name)
        if value != getattr(DEFAULTS, name):
            entries[key] = _format_value(value)
    if values.detector != DETECTORS[0]:
        entries[DETECTOR] = values.detector
    if values.only_swapped:
        entries[ONLY_SWAPPED] = True
    return entries


def _format_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return ",".join(value)
    return round(value, 3) if isinstance(value, float) else value


def from_request(args: Mapping[str, Any]) -> dict[str, Any]:
    """Of values that are not known to be good."""
    strength = args.get("strength")
    strength = strength if isinstance(strength, (int, float)) else host.option("strength", 1.0)
    return {MODEL: str(args.get("model") or controls.default_model()), STRENGTH: float(strength), FACES: 0}


def apply(parameters: dict[str, Any], entries: Mapping[str, Any]) -> None:
    """All keys at each image: a batch shares them, and the one before may have left its own."""
    for key in KEYS:
        parameters.pop(key, None)
    parameters.update(entries)


def fields(parts: Mapping[str, Any]) -> list[tuple[Any, str | Reader]]:
    """Each control with the key, or with what reads its value; None leaves the control as it is: not our image's."""
    readers: dict[str, str | Reader] = {
        "enable": lambda parameters: STRENGTH in parameters,
        "model": MODEL,
        "strength": STRENGTH,
        "faces": _if_gpen(_read_faces),
        "numbers": _if_gpen(_read_numbers),
        "detector": _if_gpen(_read_detector),
        "only_swapped": _if_gpen(lambda parameters: str(parameters.get(ONLY_SWAPPED)) == "True"),
    }
    for name, key in OPTIONS.items():
        readers[name] = _if_gpen(partial(_read_option, name, key))
    return [(parts[name], reader) for name, reader in readers.items()]


def _if_gpen(read: Reader) -> Reader:
    return lambda parameters: read(parameters) if STRENGTH in parameters else None


def _read_option(name: str, key: str, parameters: Mapping[str, Any]) -> Any:
    """A number as a number: sliders take no text."""
    default = {"max_faces": controls.NO_LIMIT, "preserve": ""}.get(name, getattr(DEFAULTS, name))
    value = parameters.get(key, default)
    return value if isinstance(default, str) else float(value)


def _read_faces(parameters: Mapping[str, Any]) -> str:
    selection = str(parameters.get(SELECTION, DEFAULTS.faces))
    return selection if selection in FACE_CHOICES else BY_NUMBER


def _read_numbers(parameters: Mapping[str, Any]) -> str | None:
    return str(parameters[SELECTION]) if _read_faces(parameters) == BY_NUMBER else None


def _read_detector(parameters: Mapping[str, Any]) -> str:
    """The default is not written; where the setting is another one, it has to be named."""
    used = str(parameters.get(DETECTOR, DETECTORS[0]))
    return USE_SETTING if used == engine.default_detector() or used not in engine.available_detectors() else used
