"""What results are called, and in which format they are written."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import OptionsError
from ..images.formats import FALLBACK_FORMAT, INPUT_SUFFIXES, OUTPUT_SUFFIXES, label
from ..options import OUTPUT_FORMATS
from .job import Boxes
from .locations import Location, Url, is_folder

FORMAT_SUFFIXES = {name: f".{name}" for name in OUTPUT_FORMATS}
"""The formats to choose from, and the suffix of each where the input's name has another format's."""
UNREAD_SUFFIXES = (".jxl", ".tga", ".exr", ".psd", ".pdf")
"""Of images that are neither read nor written: a name that ends so is meant for a file, not for a folder."""


@dataclass(frozen=True)
class OutputSpec:
    """What a run was asked to do with its images. Raises `OptionsError` for what contradicts."""

    out: Location | None
    in_place: bool = False
    before_swap: Path | None = None
    background: Path | None = None
    boxes: Boxes | None = None
    region_mask: Path | None = None
    is_folder: bool = False
    """Whether `out` is a folder whatever its name is."""
    format: str | None = None
    """A key of `FORMAT_SUFFIXES`: what all results are written as. None: as the input, or PNG where that is not written."""
    suffix: str = ""
    """What is put behind each name, before the format's suffix."""
    quality: int | None = None
    """See `codecs.encode`."""
    max_pixels: int | None = None
    """See `size_limits.check_pixels`."""

    def __post_init__(self) -> None:
        if not self.in_place and self.out is None:
            raise OptionsError("Say where the results go: -o FILE or FOLDER, or --in-place.")
        for name in ("format", "suffix"):
            if self.in_place and getattr(self, name):
                raise OptionsError(f"--{name} gives results other names, and --in-place keeps them. Give one of the two.")
        if any(sign in self.suffix for sign in "/\\\0"):
            raise OptionsError(f"--suffix is {self.suffix!r}; expected a part of a file's name, such as _restored.")


def result_name(relative_path: str, spec: OutputSpec) -> str:
    """What the result of an image is called below OUT, by the image's own name below its folder."""
    stem, suffix = os.path.splitext(relative_path)  # noqa: PTH122  a million Paths take longer than all the rest
    if suffix.lower() not in INPUT_SUFFIXES:  # a part of the name
        stem, suffix = relative_path, ""
    wanted = None if spec.format is None else FORMAT_SUFFIXES[spec.format]
    own = OUTPUT_SUFFIXES.get(suffix.lower())
    if wanted is not None and own != OUTPUT_SUFFIXES[wanted]:
        suffix = wanted
    elif suffix and own is None:
        suffix = f".{FALLBACK_FORMAT.lower()}"
    return f"{stem}{spec.suffix}{suffix}"


def output_naming(spec: OutputSpec, count: int) -> Callable[[str], str]:
    """Where a result goes by its image's name below its folder. OUT is a folder or, for one image, a file. Raises
    `OptionsError`."""
    out = spec.out
    if out is None:
        return str  # in place, where it is not asked for
    suffix = out.suffix.lower()
    named = (*INPUT_SUFFIXES, *UNREAD_SUFFIXES)
    if isinstance(out, Url):
        is_file = suffix in named  # folders need not be there
    else:
        is_file = (suffix in named or os.path.lexists(out) or bool(suffix and count == 1)) and not is_folder(out)
    if spec.is_folder or not is_file:
        return partial(_in_folder, out, spec)
    if count > 1:
        raise OptionsError(f"{count} images do not fit into one file: {out}. Give a folder.")
    if suffix not in OUTPUT_SUFFIXES:
        raise OptionsError(
            f"{out}: an image of type {suffix or 'none'} cannot be written. Choose one of {', '.join(OUTPUT_SUFFIXES)}; "
            "if a folder is meant, end it with a slash."
        )
    if spec.format is not None and OUTPUT_SUFFIXES[suffix] != OUTPUT_SUFFIXES[FORMAT_SUFFIXES[spec.format]]:
        raise OptionsError(f"--format {spec.format} is not what {out} is called. Give one of the two.")
    if spec.suffix:
        raise OptionsError(f"--suffix is for folders, and {out} is a file. Put it into that name.")
    return lambda below: str(out)


def _in_folder(out: Location, spec: OutputSpec, below: str) -> str:
    name = result_name(below, spec)
    return str(out / name) if isinstance(out, Url) else os.path.join(str(out), name)


def check_in_place(source: Location) -> None:
    """Raises `OptionsError` for an image whose name promises a format that is not written."""
    suffix = source.suffix.lower()
    if suffix in INPUT_SUFFIXES and suffix not in OUTPUT_SUFFIXES:
        kind = label(INPUT_SUFFIXES[suffix])
        raise OptionsError(f"{source} cannot be restored in place, since {kind} is not written. Give -o OUT.")
