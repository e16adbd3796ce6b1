"""The values of the option `faces`: a word, numbers, and people by reference photos."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral
from operator import index
from os import PathLike, fspath
from typing import Any

from ..errors import OptionsError

FACE_CHOICES = ("all", "largest", "center")
LIKE, NOT = "like:", "not:"
MAX_RANGE_LENGTH = 10_000  # faces


@dataclass(frozen=True, eq=False)
class FaceReference:
    """A person to choose, or to leave out, by photos of that person."""

    photos: Any
    """One photo of one person, or a tuple or list of several: values for `RestoreInput.image`. A path of a folder means all
    images in it. It is kept as a tuple."""
    is_excluded: bool = False
    """Whether the person is left out."""
    name: str = "the reference"
    """The name in messages and reports."""

    def __post_init__(self) -> None:
        is_file = hasattr(self.photos, "read")  # an open file is an iterator, too: of its lines
        is_several = isinstance(self.photos, (tuple, list, Iterator)) and not is_file  # a path has letters, an array rows
        object.__setattr__(self, "photos", tuple(self.photos) if is_several else (self.photos,))

    def __str__(self) -> str:
        return f"{NOT if self.is_excluded else LIKE}{self.name}"

    __repr__ = __str__


FaceSelection = str | tuple[int | str | FaceReference, ...]
"""A word of `FACE_CHOICES`; or numbers; or a tuple of words, numbers, texts `like:PHOTO` and `not:PHOTO`, and references."""


def parse_faces(value: Any) -> FaceSelection:
    """Check the option `faces`. Raises `OptionsError`."""
    return _parse(value, f"numbers from 0 such as 0,2 or 1-3, or {LIKE}PHOTO or {NOT}PHOTO")


def _parse(value: Any, also_expected: str) -> FaceSelection:
    if isinstance(value, str) and value in FACE_CHOICES:
        return value
    is_single = isinstance(value, (str, FaceReference)) or _is_number(value)
    try:
        parts = tuple(part for one in ((value,) if is_single else value) for part in _parse_part(one))
    except (TypeError, ValueError):
        parts = ()
    words = [part for part in parts if isinstance(part, str) and part in FACE_CHOICES]
    numbers = [part for part in parts if isinstance(part, int)]
    if not parts or min(numbers, default=0) < 0 or len(words) > 1 or (words and numbers):
        raise OptionsError(f"faces is {value!r}; expected {', '.join(FACE_CHOICES)}, {also_expected}.")
    return words[0] if len(parts) == len(words) == 1 else parts


def base_selection(faces: FaceSelection) -> str | tuple[int, ...]:
    """Return the word or the numbers of a selection, without its references; `all` if there is neither."""
    if isinstance(faces, str):
        return faces
    numbers = tuple(part for part in faces if isinstance(part, int))
    return numbers or next((part for part in faces if isinstance(part, str) and part in FACE_CHOICES), "all")


def face_references(faces: FaceSelection) -> tuple[FaceReference, ...]:
    """Return the references of a selection. Those given as text have one path each."""
    parts = () if isinstance(faces, str) else faces
    return tuple(
        part if isinstance(part, FaceReference) else _parse_reference(part)
        for part in parts
        if isinstance(part, FaceReference) or _names_photo(part)
    )


def has_wanted_person(faces: FaceSelection) -> bool:
    """Whether a selection chooses people by references, and does not only leave people out."""
    return any(not one.is_excluded for one in face_references(faces))


def with_references(faces: Any, reference: object = None, leave_out: object = None) -> Any:
    """Return the option `faces` with photos of a person to restore, and of a person to leave out: values for
    `FaceReference.photos`, or an iterator of photos."""
    photos = (("reference", reference, False), ("leave_out", leave_out, True))
    references = [FaceReference(some, is_excluded, name) for name, some, is_excluded in photos if some is not None]
    return [faces, *references] if references else faces


def check_faces_request(faces: Any) -> None:
    """Check the option `faces` of a request, a graph or an image, which may not name files by `like:PATH` or `not:PATH`.
    Raises `OptionsError`."""
    for part in [faces] if isinstance(faces, str) else faces if isinstance(faces, (list, tuple)) else ():
        if isinstance(part, str) and any(_names_photo(one.strip()) for one in (part, *part.split(","))):
            raise OptionsError(
                f"faces is {part!r}; a path can be given only on the command line and in Python. Give an image."
            )
    _parse(faces, "or numbers from 0 such as 0,2 or 1-3")


def _parse_part(part: Any) -> Iterator[int | str | FaceReference]:
    if isinstance(part, tuple):
        for one in part:
            yield from _parse_part(one)
    elif isinstance(part, FaceReference):
        if not part.photos:
            raise ValueError(part)
        yield part
    elif isinstance(part, bool):
        raise ValueError(part)
    elif not isinstance(part, str):
        yield index(part)
    elif _names_photo(part):
        if not part.partition(":")[2]:
            raise ValueError(part)
        yield part
    elif part in FACE_CHOICES:
        yield part
    else:
        yield from _parse_numbers(part.split(","))


def _parse_numbers(parts: Iterable[str]) -> Iterator[int]:
    """`2`, or a range with both ends, such as `1-3`."""
    for part in parts:
        low, dash, high = part.partition("-")
        first, last = int(low), int(high if dash else low)
        if not first <= last <= first + MAX_RANGE_LENGTH:
            raise ValueError(part)
        yield from range(first, last + 1)


def _names_photo(part: object) -> bool:
    """Whether a part is text such as `like:PHOTO`."""
    return isinstance(part, str) and part.startswith((LIKE, NOT))


def _parse_reference(text: object) -> FaceReference:
    kind, _, path = str(text).partition(":")
    photo = os.path.expanduser(path)  # noqa: PTH111  Path.expanduser raises. Shells expand no ~ after a colon
    return FaceReference((photo,), f"{kind}:" == NOT, path)


def _is_number(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def photo_path(photo: object) -> str | None:
    """Return the path of a photo, or None if it is an image in memory."""
    return fspath(photo) if isinstance(photo, PathLike) else photo if isinstance(photo, str) else None
