"""Names and formats of results."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import OptionsError
from ..files.path_checks import is_folder
from ..images.formats import FALLBACK_FORMAT, INPUT_SUFFIXES, OUTPUT_SUFFIXES, label
from .job import Boxes
from .locations import Location, Url

UNREAD_SUFFIXES = (".jxl", ".tga", ".exr", ".psd", ".pdf")
"""Suffixes of unsupported image formats. A name with such a suffix means a file, not a folder."""


@dataclass(frozen=True)
class OutputSpec:
    """The requested outputs of a run. Raises `OptionsError` for contradictions."""

    out: Location | None
    in_place: bool = False
    before_swap: Path | None = None
    background: Path | None = None
    boxes: Boxes | None = None
    region_mask: Path | None = None
    is_folder: bool = False
    """Whether `out` is a folder even if its name has a suffix."""
    format: str | None = None
    """One of `options.IMAGE_FORMATS` for all results. None: the input's format, or PNG if it cannot be written."""
    suffix: str = ""
    """A text to append to each name, before the format's suffix; see `expand_suffix`."""
    quality: int | None = None
    """See `codecs.encode`."""
    max_pixels: int | None = None
    """See `size_limits.check_pixels`."""

    def __post_init__(self) -> None:
        if not self.in_place and self.out is None:
            raise OptionsError("No output is given. Use -o FILE, -o FOLDER/ or --in-place.")
        for name in ("format", "suffix"):
            if self.in_place and getattr(self, name):
                raise OptionsError(f"--{name} changes the names of results, but --in-place keeps them. Use one of them.")
        check_suffix(self.suffix)


def check_suffix(text: str) -> None:
    """Raise `OptionsError` for a text that cannot be a part of a file name."""
    if any(sign in text for sign in "/\\\0"):
        raise OptionsError(f"--suffix is {text!r}; expected a part of a file name, such as _restored.")


def expand_suffix(text: str, suffix: str) -> str:
    """Return the text to append to the name of an input with this suffix, such as `.jpg`. `{ext}` in it becomes `jpg`."""
    return text.replace("{ext}", suffix[1:])


def conflict_advice(one: Location, other: Location) -> str:
    """Return what to do about two inputs whose results would get the same name.

    Neither gets another name by itself: a name that depended on the other inputs of a run would not be found when the run
    resumes with more or fewer of them, or would be that of another result."""
    if one.suffix == other.suffix:
        return "Restore them into different folders."
    return "To give each its own name, add --suffix _{ext}."


def result_name(relative_path: str, spec: OutputSpec) -> str:
    """Return the path of a result below OUT for an image's path below its folder."""
    stem, suffix = os.path.splitext(relative_path)  # noqa: PTH122  creating a million Paths would take most of the time
    if suffix.lower() not in INPUT_SUFFIXES:  # not a suffix, but part of the name
        stem, suffix = relative_path, ""
    stem += expand_suffix(spec.suffix, suffix)
    own = OUTPUT_SUFFIXES.get(suffix.lower())
    if spec.format is not None and own != OUTPUT_SUFFIXES[f".{spec.format}"]:
        suffix = f".{spec.format}"
    elif suffix and own is None:
        suffix = f".{FALLBACK_FORMAT.lower()}"
    return f"{stem}{suffix}"


def output_naming(spec: OutputSpec, count: int) -> Callable[[str], str]:
    """Return a function from an image's path below its folder to the path of its result.

    OUT is a folder or, for one image, a file. Raises `OptionsError`."""
    out = spec.out
    if out is None:
        return str  # never called, because results replace their inputs
    suffix = out.suffix.lower()
    named = (*INPUT_SUFFIXES, *UNREAD_SUFFIXES)
    if isinstance(out, Url):
        is_file = suffix in named  # folders need not exist
    else:
        is_file = (suffix in named or os.path.lexists(out) or bool(suffix and count == 1)) and not is_folder(out)
    if spec.is_folder or not is_file:
        return partial(_in_folder, out, spec)
    if count > 1:
        raise OptionsError(f"{out} is one file, but there are {count} images. Use a folder for -o.")
    if suffix not in OUTPUT_SUFFIXES:
        raise OptionsError(
            f"{out}: an image of type {suffix or 'none'} cannot be written. Choose one of {', '.join(OUTPUT_SUFFIXES)}; "
            "for a folder, end the name with a slash."
        )
    if spec.format is not None and OUTPUT_SUFFIXES[suffix] != OUTPUT_SUFFIXES[f".{spec.format}"]:
        raise OptionsError(f"--format {spec.format} contradicts the suffix of {out}. Use one of them.")
    if spec.suffix:
        raise OptionsError(f"--suffix is for folders, but {out} is a file. Change the name of the file instead.")
    return lambda relative_path: str(out)


def _in_folder(out: Location, spec: OutputSpec, relative_path: str) -> str:
    name = result_name(relative_path, spec)
    return str(out / name) if isinstance(out, Url) else os.path.join(str(out), name)


def check_in_place(source: Location) -> None:
    """Raise `OptionsError` for an image whose suffix is that of a format that cannot be written."""
    suffix = source.suffix.lower()
    if suffix in INPUT_SUFFIXES and suffix not in OUTPUT_SUFFIXES:
        kind = label(INPUT_SUFFIXES[suffix])
        raise OptionsError(f"{source} cannot be restored in place, because {kind} cannot be written. Use -o OUT instead.")
