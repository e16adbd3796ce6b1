"""What a picture's parameters say of GPEN, and how they come back into the controls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gpen_core import CHOICES, DETECTORS

from . import controls, engine, host
from .controls import AS_SET, BY_NUMBER, DEFAULTS, Values

Read = Callable[[Mapping[str, Any]], Any]

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


def told(values: Values, restored: int) -> dict[str, Any]:
    """Model, strength, faces restored, and what differs from gpen_core's defaults."""
    options = values.options
    said: dict[str, Any] = {MODEL: values.model, STRENGTH: round(values.strength, 3), FACES: restored}
    if values.selection != DEFAULTS.faces:
        said[SELECTION] = values.selection
    for name, key in OPTIONS.items():
        value = getattr(options, name)
        if value != getattr(DEFAULTS, name):
            said[key] = _in_words(value)
    if values.finder != DETECTORS[0]:
        said[DETECTOR] = values.finder
    if values.only_swapped:
        said[ONLY_SWAPPED] = True
    return said


def _in_words(value: Any) -> Any:
    if isinstance(value, tuple):
        return ",".join(value)
    return round(value, 3) if isinstance(value, float) else value


def asked(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of values that are not known to be good."""
    strength = given.get("strength")
    meant = strength if isinstance(strength, (int, float)) else host.option("strength", 1.0)
    return {MODEL: str(given.get("model") or controls.default_model()), STRENGTH: float(meant), FACES: 0}


def into(parameters: dict[str, Any], said: Mapping[str, Any]) -> None:
    """All keys at each picture: a batch shares them, and the one before may have left its own."""
    for key in KEYS:
        parameters.pop(key, None)
    parameters.update(said)


def fields(parts: Mapping[str, Any]) -> list[tuple[Any, str | Read]]:
    """Each control with the key, or with what reads its value; None leaves the control as it is: not our picture's."""
    read: dict[str, str | Read] = {
        "enable": lambda parameters: STRENGTH in parameters,
        "model": MODEL,
        "strength": STRENGTH,
        "faces": _ours(_faces),
        "numbers": _ours(_numbers),
        "detector": _ours(_detector),
        "only_swapped": _ours(lambda parameters: str(parameters.get(ONLY_SWAPPED)) == "True"),
    }
    for name, key in OPTIONS.items():
        read[name] = _ours(partial(_plain, name, key))
    return [(parts[name], reader) for name, reader in read.items()]


def _ours(read: Read) -> Read:
    return lambda parameters: read(parameters) if STRENGTH in parameters else None


def _plain(name: str, key: str, parameters: Mapping[str, Any]) -> Any:
    """A number as a number: sliders take no text."""
    default = {"max_faces": controls.ALL, "preserve": ""}.get(name, getattr(DEFAULTS, name))
    value = parameters.get(key, default)
    return value if isinstance(default, str) else float(value)


def _faces(parameters: Mapping[str, Any]) -> str:
    selection = str(parameters.get(SELECTION, DEFAULTS.faces))
    return selection if selection in CHOICES else BY_NUMBER


def _numbers(parameters: Mapping[str, Any]) -> str | None:
    return str(parameters[SELECTION]) if _faces(parameters) == BY_NUMBER else None


def _detector(parameters: Mapping[str, Any]) -> str:
    """The default is not written; where the setting is another one, it has to be named."""
    used = str(parameters.get(DETECTOR, DETECTORS[0]))
    return AS_SET if used == engine.detector() or used not in engine.detectors() else used
