"""Every option of a restoration, each declared once: its default, its meaning, its range, and where it is offered.

The command line, the ComfyUI nodes, the controls and the API of A1111, the text in a saved image and the reference pages are
made from these declarations. A new option is a field here, and the code that does what it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from numbers import Integral
from operator import index
from typing import Any, TypeVar

from .errors import OptionsError
from .option_spec import A1111, API, CLI, COMFYUI, OptionSpec

Declared = TypeVar("Declared", bound="_Declared")

ORDERS = ("reading", "left-right", "large-small")
FACE_CHOICES = ("all", "largest", "center")
TEMPLATES = ("gpen", "ffhq")
MASK_TYPES = ("auto", "feather", "parse")
DEFAULT_MIN_DURATION = 0.3  # seconds: longer than most false positives last, see docs/video.md
INTERLACED = ("deinterlace", "refuse", "keep")
COLORS = ("auto", "none", "match")
OCCLUDERS = "occluders"
# What may stay the input's: ParseNet's classes by the words for them, and what lies over a face.
REGIONS = (
    "eyes", "brows", "nose", "mouth", "skin", "ears", "hair", "neck", "glasses", "earrings", "necklace", OCCLUDERS
)  # fmt: skip
ANGLES = ("auto", "upright", "all")
MAX_RANGE_LENGTH = 10_000  # faces
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
AUTO = "auto"
AUTO_MODELS = (AUTO, f"{AUTO}:256")
"""In place of a model: each face is restored by the smallest network that is there and suits it, from 512 on or from 256
on. Where none is there, that for 2048 is fetched, which serves every size."""
OUTPUT_FORMATS = ("png", "jpg", "webp", "tiff")
"""What results can be written as, whatever the input is: the suffixes of their names."""
DETECTORS = ("retinaface_resnet50", "retinaface_mobile0.25")  # the first is the default

FACE_PARSER = "face_parser"
"""The weights of ParseNet, in `OptionSpec.weights`."""


def _option(default: Any, label: str, text: str, group: str, **about: Any) -> Any:
    return field(default=default, metadata={"spec": OptionSpec(text, label, group, **about)})


@dataclass(frozen=True)
class Option:
    """A declared option of `RestoreOptions` or `VideoOptions`."""

    name: str
    default: Any
    spec: OptionSpec

    def default_for(self, front_end: str) -> Any:
        return self.spec.host_defaults.get(front_end, self.default)


class _Declared:
    """Validates each field by its declaration."""

    def __repr__(self) -> str:
        """Those that are not at their default."""
        changed = ", ".join(f"{option.name}={value!r}" for option, value in changed_options(self))
        return f"{type(self).__name__}({changed})"

    def __post_init__(self) -> None:
        for option in declared_options(type(self)):
            value = option.spec.validate(option.name, getattr(self, option.name), option.default)
            object.__setattr__(self, option.name, value)

    @classmethod
    def from_mapping(cls: type[Declared], values: Mapping[str, Any]) -> Declared:
        """The options among `values`, by their names; other keys are ignored. Raises `OptionsError`."""
        names = {option.name for option in declared_options(cls)}
        return cls(**{name: value for name, value in values.items() if name in names})


def declared_options(kind: type, front_end: str | None = None, *groups: str) -> list[Option]:
    """The options of `RestoreOptions` or `VideoOptions`, in their order: those that this front end offers, of these groups;
    without groups, of all."""
    options = (Option(one.name, one.default, one.metadata["spec"]) for one in fields(kind))
    return [
        one
        for one in options
        if (front_end is None or front_end in one.spec.front_ends) and (not groups or one.spec.group in groups)
    ]


def changed_options(options: Any) -> Iterator[tuple[Option, Any]]:
    """Those that are not at their default, each with its value."""
    for option in declared_options(type(options)):
        value = getattr(options, option.name)
        if value != option.default:
            yield option, value


def required_weights(options: RestoreOptions) -> frozenset[str]:
    """The weights beside network and detector that these options need on any device, such as `FACE_PARSER`."""
    return frozenset(
        name for option in declared_options(type(options)) for name in option.spec.weights(getattr(options, option.name))
    )


def supported_on_device(options: RestoreOptions) -> bool:
    """Whether all that these options ask for is computed on the GPU."""
    return all(option.spec.on_device for option, _ in changed_options(options))


COMMAND_LINE_ONLY = frozenset((CLI,))
VIDEO_FRONT_ENDS = frozenset((CLI, COMFYUI))


@dataclass(frozen=True, kw_only=True, repr=False)
class RestoreOptions(_Declared):
    """How to restore the faces of one image. A value that cannot be raises `OptionsError`.

    docs/reference/options.md lists the fields with their meaning, ranges and defaults."""

    strength: float = _option(
        1.0, "Strength", "Blend of the restored face (1) with the input (0). Lower values keep more of the person.",
        "look", minimum=0, maximum=1, step=0.01, infotext="GPEN strength",
    )  # fmt: skip
    faces: str | tuple[int, ...] = _option(
        "all", "Faces",
        "Faces to restore: all, largest, center, or face numbers starting at 0, e.g. 0,2-4.",
        "selection", convert=lambda value: _parse_faces(value), placeholder="all, largest, center or 0,2-4",
        suggestions=FACE_CHOICES,
        infotext="GPEN selection",
    )  # fmt: skip
    order: str = _option(
        "reading", "Order",
        "Order of face numbers. reading: row by row, from the left. left-right: by position. large-small: by size.",
        "selection", choices=ORDERS, infotext="GPEN order", is_advanced=True,
        host_defaults={A1111: "left-right", API: "left-right"},  # as ReActor counts
    )  # fmt: skip
    min_face_size: int = _option(
        0, "Min face size", "Skip faces smaller than this (shorter side of the bounding box).",
        "selection", minimum=0, maximum=8192, step=1, unit="px", infotext="GPEN min face size", is_advanced=True,
    )  # fmt: skip
    max_face_size: int = _option(
        0, "Max face size", "Skip faces larger than this (shorter side of the bounding box). 0 turns it off.",
        "selection", minimum=0, maximum=8192, step=1, unit="px", infotext="GPEN max face size", is_advanced=True,
    )  # fmt: skip
    max_faces: int | None = _option(
        None, "Max faces", "Restore at most this many faces, largest first. 0 restores all.",
        "selection", minimum=0, maximum=1000, step=1, infotext="GPEN max faces", is_advanced=True,
    )  # fmt: skip
    confidence: float = _option(
        0.9, "Confidence", "Minimum detection score. Lower values find more faces, but also more false positives.",
        "detection", minimum=0, maximum=1, step=0.01, infotext="GPEN confidence", is_advanced=True,
    )  # fmt: skip
    detection_size: int = _option(
        2000, "Detection size",
        "Downscale the image for detection, to the area of a 4:3 image with this longer side. Higher finds smaller faces "
        "but is slower.",
        "detection", minimum=64, maximum=8192, step=8, unit="px", infotext="GPEN detection size", is_advanced=True,
    )  # fmt: skip
    angles: str = _option(
        "auto", "Angles",
        "Rotations to try. auto: tries all of them if no upright face is found. all: always tries every rotation. "
        "upright: none.",
        "detection", choices=ANGLES, infotext="GPEN angles", is_advanced=True,
    )  # fmt: skip
    template: str = _option(
        "gpen", "Template", "Alignment of the face crop. Use ffhq only for networks trained with FFHQ's alignment.",
        "look", choices=TEMPLATES, infotext="GPEN template", is_advanced=True,
    )  # fmt: skip
    mask_type: str = _option(
        "auto", "Mask type",
        "Shape of the blend mask. feather: a soft square. parse: the outline of the face, found by ParseNet. auto: parse "
        "on a GPU, feather on a CPU.",
        "look", choices=MASK_TYPES, infotext="GPEN mask type", is_advanced=True,
        weights=lambda value: (FACE_PARSER,) if value == "parse" else (),
    )  # fmt: skip
    mask_expand: float = _option(
        0.0, "Mask expand", "Expand (> 0) or shrink (< 0) the mask by this fraction of the face width.",
        "look", minimum=-0.5, maximum=0.5, step=0.01, infotext="GPEN mask expand", is_advanced=True, on_device=False,
    )  # fmt: skip
    color: str = _option(
        "auto", "Color",
        "Color of restored faces. auto: keeps gray and sepia faces gray and sepia. match: uses the input's colors. none: "
        "uses the network's colors.",
        "look", choices=COLORS, infotext="GPEN color", is_advanced=True,
    )  # fmt: skip
    grain: float = _option(
        0.0, "Grain", "Add the image's film grain or noise back to restored faces. 1 matches the rest of the image.",
        "look", minimum=0, maximum=1, step=0.05, infotext="GPEN grain", is_advanced=True, on_device=False,
    )  # fmt: skip
    preserve: str | tuple[str, ...] = _option(
        (), "Preserve", "Regions copied unchanged from the input, e.g. eyes,mouth. All except occluders require ParseNet.",
        "look", choices=REGIONS, multiple=True, placeholder="eyes,mouth", infotext="GPEN preserve", is_advanced=True,
        on_device=False, weights=lambda value: (FACE_PARSER,) if set(value) - {OCCLUDERS} else (),
    )  # fmt: skip
    upscale: float = _option(
        1.0, "Upscale", "Upscale the whole image by this factor. Faces are restored from the original pixels.",
        "upscale", minimum=1, maximum=8, step=0.5, is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    upscaler: str = _option(
        "lanczos", "Upscaler",
        "Upscaler for the background: lanczos, realesrnet_x2, realesrnet_x4, or an RRDBNet file. Networks require spandrel "
        "or basicsr.",
        "upscale", placeholder="lanczos, the name of a network or a file", is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "max_faces", self.max_faces or None)
        if 0 < self.max_face_size < self.min_face_size:
            raise OptionsError(
                f"max_face_size is {self.max_face_size} and min_face_size {self.min_face_size}; expected the larger one as "
                "the maximum."
            )


@dataclass(frozen=True, kw_only=True, repr=False)
class VideoOptions(_Declared):
    """What is asked of a video beside `RestoreOptions`. A value that cannot be raises `OptionsError`.

    docs/reference/options.md lists the fields with their meaning, ranges and defaults."""

    temporal_smoothing: float = _option(
        1.0, "Temporal smoothing", "Temporal smoothing of restored faces. 0 processes each frame independently.",
        "video", minimum=0, maximum=1, step=0.05, front_ends=VIDEO_FRONT_ENDS,
    )  # fmt: skip
    min_duration: float = _option(
        DEFAULT_MIN_DURATION, "Min duration", "Skip people visible for less than this time.",
        "video", minimum=0, step=0.1, unit="s", is_advanced=True, front_ends=VIDEO_FRONT_ENDS,
    )  # fmt: skip
    start: float | None = _option(
        None, "Start", "Start time in seconds or H:M:S, from the first frame.",
        "video", minimum=0, step=0.1, unit="s", is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    end: float | None = _option(
        None, "End", "End time in seconds or H:M:S, from the first frame.",
        "video", minimum=0, step=0.1, unit="s", is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    fps: float | None = _option(
        None, "Frame rate", "Frames per second of a folder of images (25 by default).",
        "video", minimum=0, step=0.1, is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    interlaced: str = _option(
        "deinterlace", "Interlaced video",
        "Interlaced video. deinterlace: applies bwdif. refuse: stops with an error. keep: treats the frames as progressive.",
        "video", choices=INTERLACED, is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    codec: str = _option(
        "auto", "Codec",
        "Video codec. auto: H.264, or HEVC for more than 8 bits. Or h264, hevc, av1, vp9, prores, ffv1, an encoder such as "
        "hevc_nvenc, or a JSON file with encoder settings.",
        "video", placeholder="auto, h264, hevc, av1, vp9, prores, ffv1 or the name of an encoder", is_advanced=True,
        front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    crf: int | None = _option(
        None, "Quality (CRF)",
        "Constant quality of the encoder. Lower is better and larger; for VideoToolbox, higher is better.",
        "video", minimum=0, maximum=255, step=1, is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    bitrate: int | None = _option(
        None, "Bit rate", "Average bit rate in bits per second instead of a quality, e.g. 8M.",
        "video", minimum=1, step=1, is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    preset: str | None = _option(
        None, "Preset", "Preset of the encoder, e.g. slow, p7 or 4. Slower presets give smaller files.",
        "video", placeholder="the name of a preset, such as slow", is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip
    pix_fmt: str | None = _option(
        None, "Pixel format", "Pixel format of the output, e.g. yuv420p. By default the one that loses least.",
        "video", placeholder="the name of a pixel format, such as yuv420p", is_advanced=True, front_ends=COMMAND_LINE_ONLY,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fps == 0:
            raise OptionsError("fps is 0; expected frames a second, such as 25.")
        if self.crf is not None and self.bitrate is not None:
            raise OptionsError(f"crf is {self.crf} and bitrate {self.bitrate}; expected only one of them.")
        if self.end is not None and self.end <= (self.start or 0):
            raise OptionsError(f"end is {self.end:g} and start {self.start or 0:g}; expected an end after the start.")


def _parse_faces(value: Any) -> str | tuple[int, ...]:
    if isinstance(value, str) and value in FACE_CHOICES:
        return value
    parts = value.split(",") if isinstance(value, str) else (value,) if _is_number(value) else value
    try:
        numbers = tuple(number for part in parts for number in _parse_range(part))
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or min(numbers) < 0:
        raise OptionsError(f"faces is {value!r}; expected {', '.join(FACE_CHOICES)} or numbers from 0 such as 0,2 or 1-3.")
    return numbers


def _is_number(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _parse_range(part: Any) -> range:
    """`2`, or a range with both ends, such as `1-3`."""
    if not isinstance(part, str):
        return range(index(part), index(part) + 1)
    low, dash, high = part.partition("-")
    first, last = int(low), int(high if dash else low)
    if not first <= last <= first + MAX_RANGE_LENGTH:
        raise ValueError(part)
    return range(first, last + 1)
