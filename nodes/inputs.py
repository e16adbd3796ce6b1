"""Inputs shared by several nodes. Inputs for options are generated from the options' declarations."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..gpen_core import Option, RestoreOptions, VideoOptions, declared_options
from . import folders
from .comfy import FaceOptionsType, GpenModelType, LookOptionsType, io

FRONT_END = "comfyui"
NO_LIMIT = 100_000  # for options without a maximum: ComfyUI would limit them to 2048
ANY_OF = "Any of: {}."
RANGE = "Range: {}."  # ComfyUI shows neither the limits of a number nor its unit


def option_inputs(
    kind: type[RestoreOptions | VideoOptions], *groups: str, names: Collection[str] = (), without: Collection[str] = ()
) -> list[Any]:
    """Return an input for each declared option of `groups`, in order. `names` restricts them to these options."""
    return [
        _option_input(option, option.default_for(FRONT_END))
        for option in declared_options(kind, FRONT_END, *groups)
        if option.name not in without and (not names or option.name in names)
    ]


def strength(default: float | None = None) -> Any:
    (option,) = (one for one in declared_options(RestoreOptions, FRONT_END) if one.name == "strength")
    return _option_input(option, option.default_for(FRONT_END) if default is None else default)


def faces() -> Any:
    return option_inputs(RestoreOptions, names=("faces",))[0]


def _option_input(option: Option, default: Any) -> Any:
    spec = option.spec
    if spec.multiple:
        tooltip = f"{spec.help} {ANY_OF.format(', '.join(spec.choices))}"
        return io.String.Input(option.name, default=",".join(default), placeholder=spec.placeholder, tooltip=tooltip)
    if spec.choices:
        return io.Combo.Input(option.name, options=list(spec.choices), default=default, tooltip=spec.help)
    if spec.minimum is None:
        return io.String.Input(option.name, default=default, placeholder=spec.placeholder, tooltip=spec.help)
    convert = int if spec.is_whole else float
    return (io.Int if spec.is_whole else io.Float).Input(
        option.name,
        default=convert(spec.minimum if default is None else default),
        min=convert(spec.minimum),
        max=convert(NO_LIMIT if spec.maximum is None else spec.maximum),
        step=spec.step,
        tooltip=with_range(spec.help, spec.range_text),
    )


def with_range(text: str, range_text: str) -> str:
    """Return the tooltip of a numeric input: the help text, then the range."""
    return f"{text} {RANGE.format(range_text)}"


def model() -> Any:
    choices = folders.model_choices()
    return io.Combo.Input(
        "model",
        options=choices,
        default=choices[0],
        tooltip="GPEN network. The number is the face resolution in pixels. auto picks a network for each face by its "
        "size, from 512 up. auto:256 also uses the network for 256.",
    )


def gpen_model() -> Any:
    return GpenModelType.Input(
        "gpen_model", optional=True, lazy=True, tooltip="From Load GPEN Model. It replaces the model chosen on this node."
    )


def detector_model() -> Any:
    return GpenModelType.Input("gpen_model", optional=True, tooltip="From Load GPEN Model. Only its detector is used.")


def face_options() -> Any:
    return FaceOptionsType.Input("face_options", optional=True, tooltip="From Face Options (GPEN).")


def look_options(unused: Collection[str] = ()) -> Any:
    """`unused`: the names of options that the node does not use."""
    tooltip = "From Look Options (GPEN)."
    if unused:
        declared = declared_options(RestoreOptions, FRONT_END, "look")
        *names, last = (one.name for one in declared if one.name not in {"strength", *unused})
        tooltip += f" Only {', '.join(names)} and {last} are used."
    return LookOptionsType.Input("look_options", optional=True, tooltip=tooltip)


def video_region_mask() -> Any:
    return io.Mask.Input(
        "region_mask",
        optional=True,
        tooltip="Restrict restoration to this mask: one for all frames, or a batch with a mask for each frame. Load "
        "Image's 64x64 placeholder counts as no mask.",
    )


def mask_video() -> Any:
    return io.Video.Input(
        "mask_video",
        optional=True,
        tooltip="Restrict restoration to the white parts of this video, which has a mask for each frame. It is read "
        "frame by frame. Connect either this or region_mask.",
    )


def region_mask() -> Any:
    return io.Mask.Input(
        "region_mask",
        optional=True,
        tooltip="Restrict restoration to this mask. Faces outside it are skipped. Load Image's 64x64 placeholder "
        "counts as no mask.",
    )
