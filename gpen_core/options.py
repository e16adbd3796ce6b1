"""Everything that a caller can ask of a restoration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from operator import index
from typing import Any

from .errors import OptionsError

ORDERS = ("reading", "left-right", "large-small")
FACE_CHOICES = ("all", "largest", "center")
TEMPLATES = ("gpen", "ffhq")
MASK_TYPES = ("auto", "feather", "parse")
COLORS = ("auto", "none", "match")
OCCLUDERS = "occluders"
# What may stay the input's: ParseNet's classes by the words for them, and what lies over a face.
REGIONS = (
    "eyes", "brows", "nose", "mouth", "skin", "ears", "hair", "neck", "glasses", "earrings", "necklace", OCCLUDERS
)  # fmt: skip
LARGEST_EXPANSION = 0.5  # of the face's width
MAX_UPSCALE = 8.0
ANGLES = ("auto", "upright", "all")
MAX_RANGE_LENGTH = 10_000  # faces
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
AUTO = "auto"
AUTO_MODELS = (AUTO, f"{AUTO}:256")
"""In place of a model: each face is restored by the network of its size, from 512 on or from 256 on."""
DETECTORS = ("retinaface_resnet50", "retinaface_mobile0.25")  # the first is the default


@dataclass(frozen=True)
class RestoreOptions:
    """How to restore the faces of one image. A value that cannot be raises `OptionsError`."""

    strength: float = 1.0
    """0 leaves the image as it is, 1 takes the restored face whole."""
    faces: str | tuple[int, ...] = "all"
    """`all`, `largest`, `center`, or numbers in the chosen order, from 0 (also as text: `0,2-4`)."""
    order: str = "reading"
    """How faces are numbered: `reading`, `left-right` or `large-small`."""
    min_face_size: float = 0.0
    """Pixels: faces whose box has a shorter side are left alone."""
    max_faces: int | None = None
    """At most so many, the largest."""
    confidence: float = 0.9
    """Of the detector, 0 to 1."""
    detection_size: int = 2000
    """Pixels: a longer side is reduced to this for the smallest faces, and further for larger ones."""
    template: str = "gpen"
    """`gpen`, which the released weights were run with, or `ffhq`."""
    mask_type: str = "auto"
    """`feather`, `parse` (needs ParseNet), or `auto`: parse where ParseNet is there and the device is not the CPU."""
    color: str = "auto"
    """`auto` gives a face that is gray, or of one tone, back as it was; `match` gives every restored face the colors of
    the input's; `none` leaves them as the network gives them."""
    angles: str = "auto"
    """At which angles heads may stand: `upright`, `all`, or `auto`: all where nothing plausible is found upright."""
    grain: float = 0.0
    """0 to 1: how much of the image's own grain the restored faces get."""
    preserve: str | tuple[str, ...] = ()
    """Of `REGIONS` (also as text: `eyes,mouth`): what stays the input's. All but `occluders` need ParseNet."""
    mask_expand: float = 0.0
    """Parts of the face's width by which the mask's edge moves outwards, inwards below 0; at most a half either way."""
    upscale: float = 1.0
    """1 to 8: the whole image is enlarged so many times, and the faces are restored at that size."""
    upscaler: str = "lanczos"
    """What enlarges the rest of the image: `lanczos`, a network's name, or a file of one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "faces", _parse_faces(self.faces))
        _check_choice("order", self.order, ORDERS)
        _check_choice("template", self.template, TEMPLATES)
        _check_choice("mask_type", self.mask_type, MASK_TYPES)
        _check_choice("color", self.color, COLORS)
        _check_choice("angles", self.angles, ANGLES)
        object.__setattr__(self, "preserve", _parse_regions(self.preserve))
        _check_range("strength", self.strength, 0, 1)
        _check_range("grain", self.grain, 0, 1)
        _check_range("mask_expand", self.mask_expand, -LARGEST_EXPANSION, LARGEST_EXPANSION)
        _check_range("upscale", self.upscale, 1, MAX_UPSCALE)
        if not isinstance(self.upscaler, str) or not self.upscaler:
            raise OptionsError(f"upscaler is {self.upscaler!r}; expected lanczos, the name of a network or a file.")
        _check_range("confidence", self.confidence, 0, 1)
        _check_range("min_face_size", self.min_face_size, 0)
        _check_range("detection_size", self.detection_size, 32, whole=True)
        if self.max_faces is not None:
            _check_range("max_faces", self.max_faces, 0, whole=True)
        _to_python_numbers(
            self,
            ("strength", "confidence", "min_face_size", "grain", "mask_expand", "upscale"),
            ("detection_size", "max_faces"),
        )


@dataclass(frozen=True)
class VideoOptions:
    """What is asked of a video beside `RestoreOptions`. A value that cannot be raises `OptionsError`."""

    temporal_smoothing: float = 1.0
    """0 to 1: how much restored faces are evened out over time; 0 takes every frame by itself."""
    start: float | None = None
    """Seconds from the first frame: what comes before is left out."""
    end: float | None = None
    """Seconds from the first frame: this and what follows is left out."""
    min_duration: float = 0.0
    """Seconds: who is in the video for less is left alone."""
    codec: str = "auto"
    """`auto` (H.264, with more than 8 bits HEVC), `h264`, `hevc`, `av1`, `ffv1`, or an encoder's name."""
    crf: int | None = None
    """The encoder's constant quality: less is better and larger; None takes the default."""
    fps: float | None = None
    """Frames a second of a folder of images; None: 25."""

    def __post_init__(self) -> None:
        _check_range("temporal_smoothing", self.temporal_smoothing, 0, 1)
        _check_range("min_duration", self.min_duration, 0)
        for name in ("start", "end", "fps"):
            if getattr(self, name) is not None:
                _check_range(name, getattr(self, name), 0)
        if self.crf is not None:
            _check_range("crf", self.crf, 0, 255, whole=True)
        if self.fps == 0:
            raise OptionsError("fps is 0; expected frames a second, such as 25.")
        if self.end is not None and self.end <= (self.start or 0):
            raise OptionsError(f"end is {self.end:g} and start {self.start or 0:g}; expected an end after the start.")
        if not isinstance(self.codec, str) or not self.codec:
            raise OptionsError(f"codec is {self.codec!r}; expected auto, h264, hevc, av1, ffv1 or the name of an encoder.")
        _to_python_numbers(self, ("temporal_smoothing", "start", "end", "min_duration", "fps"), ("crf",))


def _to_python_numbers(options: object, floats: tuple[str, ...], integers: tuple[str, ...]) -> None:
    """Converts NumPy numbers and fractions, which JSON cannot hold, to Python's own."""
    for names, kind in ((floats, float), (integers, int)):
        for name in names:
            value = getattr(options, name)
            if value is not None:
                object.__setattr__(options, name, kind(value))


def _parse_faces(value: Any) -> str | tuple[int, ...]:
    if isinstance(value, str) and value in FACE_CHOICES:
        return value
    parts = value.split(",") if isinstance(value, str) else value
    try:
        numbers = tuple(number for part in parts for number in _parse_range(part))
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or min(numbers) < 0:
        raise OptionsError(f"faces is {value!r}; expected {', '.join(FACE_CHOICES)} or numbers from 0 such as 0,2 or 1-3.")
    return numbers


def _parse_regions(value: Any) -> tuple[str, ...]:
    """In the order of `REGIONS`, each once."""
    parts = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    try:
        names = frozenset(parts)
        known = names <= frozenset(REGIONS)
    except TypeError:
        known = False
    if not known:
        raise OptionsError(f"preserve is {value!r}; expected regions from {', '.join(REGIONS)}, such as eyes,mouth.")
    return tuple(region for region in REGIONS if region in names)


def _parse_range(part: Any) -> range:
    """`2`, or a range with both ends, such as `1-3`."""
    if not isinstance(part, str):
        return range(index(part), index(part) + 1)
    low, dash, high = part.partition("-")
    first, last = int(low), int(high if dash else low)
    if not first <= last <= first + MAX_RANGE_LENGTH:
        raise ValueError(part)
    return range(first, last + 1)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionsError(f"{name} is {value!r}; expected one of {', '.join(choices)}.")


def _is_finite(value: Any, whole: bool) -> bool:
    """Whether it fits into its Python type: a float cannot hold 10**400."""
    try:
        return whole or math.isfinite(value)
    except OverflowError:
        return False


def _check_range(name: str, value: Any, low: float, high: float = math.inf, whole: bool = False) -> None:
    is_number = isinstance(value, Integral if whole else Real)
    if not is_number or not (low <= value <= high and _is_finite(value, whole)):
        kind = "a whole number" if whole else "a number"
        upper = "" if high == math.inf else f" and at most {high:g}"
        raise OptionsError(f"{name} is {value!r}; expected {kind} of at least {low:g}{upper}.")
