"""What an image's parameters say of GPEN, and how they come back into the controls: by the declared options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gpen_core import DETECTORS, GpenError, Option

from . import controls, engine
from .controls import USE_SETTING, ControlValues
from .option_widgets import FRONT_END, OPTIONS, format_value, to_widget

Reader = Callable[[Mapping[str, Any]], Any]

MODEL, FACES, DETECTOR, ONLY_SWAPPED = "GPEN model", "GPEN faces", "GPEN detector", "GPEN only swapped"
FAILED = "GPEN failed"
WRITTEN = {name: option for name, option in OPTIONS.items() if option.spec.infotext}
KEYS = (MODEL, FACES, *(option.spec.infotext for option in WRITTEN.values()), DETECTOR, ONLY_SWAPPED, FAILED)


def format_infotext(values: ControlValues, restored_count: int) -> dict[str, Any]:
    """Model, faces restored, and what differs from this host's declared defaults."""
    entries: dict[str, Any] = {MODEL: values.model, FACES: restored_count}
    for name, option in WRITTEN.items():
        value = getattr(values.options, name)
        if value != option.default_for(FRONT_END):
            entries[option.spec.infotext] = format_value(value)
    if values.detector != DETECTORS[0]:
        entries[DETECTOR] = values.detector
    if values.only_swapped:
        entries[ONLY_SWAPPED] = True
    return entries


def format_failure(model: Any, reason: str) -> dict[str, Any]:
    """Where nothing was restored, and why: a few words."""
    return {MODEL: str(model or controls.default_model()), FACES: 0, FAILED: reason}


def apply(parameters: dict[str, Any], entries: Mapping[str, Any]) -> None:
    """All keys at each image: a batch shares them, and the one before may have left its own."""
    for key in KEYS:
        parameters.pop(key, None)
    parameters.update(entries)


def fields(parts: Mapping[str, Any]) -> list[tuple[Any, str | Reader]]:
    """Each control with the key, or with what reads its value; None leaves the control as it is: not our image's."""
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
    """As the control has it; None for text that means no value."""
    spec, default = option.spec, option.default_for(FRONT_END)
    value = parameters.get(spec.infotext, default)
    try:
        if spec.minimum is not None and isinstance(value, str):  # sliders take no text
            value = int(float(value)) if spec.is_whole else float(value)
        return to_widget(spec, spec.validate(option.name, value, default))
    except (GpenError, ValueError, OverflowError):
        return None


def _read_detector(parameters: Mapping[str, Any]) -> str:
    """The default is not written; where the setting is another one, it has to be named."""
    used = str(parameters.get(DETECTOR, DETECTORS[0]))
    return USE_SETTING if used == engine.default_detector() or used not in engine.available_detectors() else used
