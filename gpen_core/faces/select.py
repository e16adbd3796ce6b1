"""Choosing the faces to restore, and their order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import FaceNumberError
from ..options import FaceSelection, RestoreOptions, base_selection, has_wanted_person
from ..progress import pluralize
from .face import Box, Face
from .head_pose import MAX_POSE_RESIDUAL, estimate_pose
from .identity import PersonMatch

MAX_LISTED = 5  # face numbers in a note
ZERO_STRENGTH = "at zero strength"  # the reason for faces that this leaves as they are
MIN_OVERLAP = 0.5  # of the smaller box's area: other detectors draw wider or tighter boxes


def sort_faces(faces: Sequence[Face], order: str) -> list[Face]:
    """Return the faces in this order.

    `reading`: rows from top to bottom, each from left to right; a row is as high as its tallest face. `left-right`: by
    left edge. `large-small`: by area."""
    if order == "large-small":
        return sorted(faces, key=lambda face: -face.area)
    if order == "left-right":
        return sorted(faces, key=lambda face: face.box[0])
    rows: list[list[Face]] = []
    for face in sorted(faces, key=lambda face: face.center[1]):
        if rows and face.center[1] < max(rows[-1], key=lambda other: other.height).box[3]:
            rows[-1].append(face)
        else:
            rows.append([face])
    return [face for row in rows for face in sorted(row, key=lambda face: face.center[0])]


def flag_implausible(faces: Sequence[Face]) -> list[Face]:
    """Return the same faces, with `reason` set on those whose landmarks fit no head (see `head_pose.estimate_pose`)."""
    if not faces:
        return []
    residual = estimate_pose(np.stack([face.landmarks for face in faces])).residual
    return [
        replace(
            face,
            reason=face.reason or f"its landmarks are not those of a head (residual {r:.2f}, at most {MAX_POSE_RESIDUAL})",
        )
        if r > MAX_POSE_RESIDUAL
        else face
        for face, r in zip(faces, residual)
    ]


def select_faces(
    faces: Sequence[Face],
    size: tuple[int, int],
    options: RestoreOptions,
    matches: Sequence[PersonMatch | None] = (),
) -> list[Face]:
    """Return the same faces in the same order, with `reason` set on those that the options skip. Existing reasons are
    kept.

    `size` is (width, height) of the image. Numbers in `options.faces` count from 0 in the order given. `matches` say which
    person each face is, if the options have references. Then a face is selected by its number or its person, and `largest`
    or `center` chooses among these."""
    reasons = {n: face.reason for n, face in enumerate(faces) if face.reason is not None}
    for n, face in enumerate(faces):
        if n not in reasons and (reason := size_reason(face.shorter_side, options)) is not None:
            reasons[n] = reason
    numbers = base_selection(options.faces)
    for n, match in enumerate(matches):
        is_numbered = not isinstance(numbers, str) and n in numbers
        if n not in reasons and (reason := person_reason(match, is_numbered)) is not None:
            reasons[n] = reason
    remaining = [n for n in range(len(faces)) if n not in reasons]
    wanted = _matching_faces(faces, remaining, size, options.faces)
    reasons.update({n: _skip_reason(options.faces) for n in remaining if n not in wanted})
    if options.max_faces is not None:
        by_size = sorted(wanted, key=lambda n: -faces[n].area)
        reason = f"more than {options.max_faces} faces: the largest are taken"
        reasons.update(dict.fromkeys(by_size[options.max_faces :], reason))
    return [replace(face, reason=reasons.get(n)) for n, face in enumerate(faces)]


def size_reason(side: float, options: RestoreOptions) -> str | None:
    """Return why a face is skipped whose box has a shorter side of `side` pixels, or None."""
    if side < options.min_face_size:
        return f"smaller than the minimum: {math.floor(side)} px, minimum {options.min_face_size} px"
    if 0 < options.max_face_size < side:
        return f"larger than the maximum: {math.ceil(side)} px, maximum {options.max_face_size} px"
    return None


def skip_outside_boxes(faces: Sequence[Face], boxes: Sequence[Box]) -> list[Face]:
    """Return the same faces, with `reason` set on those outside the boxes: they share less than half of the smaller area
    with each."""

    def check(face: Face) -> Face:
        is_inside = any(matches_box(face.box, box) for box in boxes)
        return face if is_inside or face.reason else replace(face, reason="outside the given boxes")

    return [check(face) for face in faces]


def matches_box(face: Box, box: Box) -> bool:
    """Return whether a detected box and a given box are of the same face."""
    return _intersection_over_smaller(face, box) >= MIN_OVERLAP


def _intersection_over_smaller(a: Box, b: Box) -> float:
    """Return the intersection relative to the smaller area; 0 for a box without area."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(width, 0.0) * max(height, 0.0) / smaller if smaller > 0 else 0.0


def person_reason(match: PersonMatch | None, is_numbered: bool) -> str | None:
    """Return why the references of a selection skip a face, or None. A face without a match has no usable landmarks.

    `is_numbered`: the selection has its number, too, so it need not be like a person to restore."""
    if match is None:
        return "its landmarks are too uncertain to compare it with the reference"
    if match.is_same and match.is_excluded:
        return f"left out: {match.text}"
    if match.wanted_similarity is None or is_numbered or match.is_same:
        return None
    return f"another person: {match.wanted_similarity:.2f} like {match.wanted_name}, {match.threshold:g} counts as the same"


def person_notes(matches: Sequence[PersonMatch | None], is_image: bool = True) -> list[str]:
    """Return notes on references that no face is like and on uncertain faces; for an image, which shows a person once, also
    on several faces that are like one person."""
    found = {n: match for n, match in enumerate(matches) if match is not None}
    notes = []
    wanted = {n: match for n, match in found.items() if match.wanted_similarity is not None}
    if wanted and not any(match.is_same and not match.is_excluded for match in wanted.values()):
        n, best = max(wanted.items(), key=lambda one: one[1].wanted_similarity or -1.0)
        closest = f"no face is like {best.wanted_name}: the closest is face {n} with {best.wanted_similarity:.2f}"
        if (best.wanted_similarity or 0.0) >= best.threshold:  # it is more like a person to leave out
            notes.append(f"{closest}, but it is left out: {best.text}")
        else:
            notes.append(f"{closest}, {best.threshold:g} counts as the same person")
    by_person: dict[str, list[int]] = {}
    for n, match in found.items():
        if match.is_same:
            by_person.setdefault(match.name, []).append(n)
    for name, numbers in by_person.items():
        if len(numbers) > 1 and is_image:
            listed = ", ".join(f"face {n} ({found[n].similarity:.2f})" for n in numbers[:MAX_LISTED])
            notes.append(f"{pluralize(len(numbers), 'face')} are like {name}: {listed}")
    notes += [f"face {n} is uncertain: {match.text}" for n, match in found.items() if match.is_close_call]
    return notes


def _matching_faces(faces: Sequence[Face], remaining: list[int], size: tuple[int, int], choice: FaceSelection) -> list[int]:
    selection = base_selection(choice)
    if not isinstance(selection, str):
        return [n for n in remaining if n in selection or has_wanted_person(choice)]
    if selection == "all" or not remaining:
        return remaining
    if selection == "largest":
        return [max(remaining, key=lambda n: faces[n].area)]
    x, y = size[0] / 2, size[1] / 2
    return [min(remaining, key=lambda n: (faces[n].center[0] - x) ** 2 + (faces[n].center[1] - y) ** 2)]


def missing_numbers(choice: FaceSelection, count: int) -> list[str]:
    """Return a note on requested face numbers that do not exist among `count` faces, or an empty list."""
    selection = base_selection(choice)
    missing = () if isinstance(selection, str) else sorted({n for n in selection if n >= count})
    if not missing:
        return []
    shown = ", ".join(map(str, missing[:MAX_LISTED])) + (", ..." if len(missing) > MAX_LISTED else "")
    found = "no face was found" if count == 0 else "the only face is 0" if count == 1 else f"faces are 0 to {count - 1}"
    return [f"there is no face {shown}: {found}"]


def raise_if_missing(choice: FaceSelection, count: int, require_all: bool) -> None:
    """Raise `FaceNumberError` if faces were found, but none of the requested numbers exists; with `require_all`, if any
    number is missing. A photo may lack a person who is chosen by a reference."""
    selection = base_selection(choice)
    if isinstance(selection, str) or not count:
        return
    missing = [n >= count for n in selection]
    if (all(missing) and not has_wanted_person(choice)) or (require_all and any(missing)):
        raise FaceNumberError(f"{'; '.join(missing_numbers(selection, count))}. Nothing was written.")


def _skip_reason(choice: FaceSelection) -> str:
    selection = base_selection(choice)
    if isinstance(selection, str):
        return f"not the {'most central' if selection == 'center' else selection} face"
    return "not asked for"
