"""Which of the faces found are to be restored, and in which order they are numbered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .face import Box, Face
from .head_pose import LARGEST_RESIDUAL, poses

SMALLEST_OVERLAP = 0.5  # of the smaller of two boxes: other detectors draw theirs wider or tighter


def in_order(faces: Sequence[Face], order: str) -> list[Face]:
    """`reading`: by rows from the top, each from the left; a row is as high as its tallest face. `left-right`: by left
    edge. `large-small`: by area."""
    if order == "large-small":
        return sorted(faces, key=lambda face: -face.area)
    if order == "left-right":
        return sorted(faces, key=lambda face: face.box[0])
    rows: list[list[Face]] = []
    for face in sorted(faces, key=lambda face: face.centre[1]):
        if rows and face.centre[1] < max(rows[-1], key=lambda other: other.height).box[3]:
            rows[-1].append(face)
        else:
            rows.append([face])
    return [face for row in rows for face in sorted(row, key=lambda face: face.centre[0])]


def heads(faces: Sequence[Face]) -> list[Face]:
    """The same faces; `reason` is set on those whose landmarks no head can show, see `head_pose.poses`."""
    if not faces:
        return []
    residual = poses(np.stack([face.landmarks for face in faces])).residual
    return [
        replace(
            face,
            reason=face.reason or f"its landmarks are not those of a head (residual {r:.2f}, at most {LARGEST_RESIDUAL})",
        )
        if r > LARGEST_RESIDUAL
        else face
        for face, r in zip(faces, residual)
    ]


def choose(
    faces: Sequence[Face],
    size: tuple[int, int],
    which: str | tuple[int, ...] = "all",
    min_face_size: float = 0,
    max_faces: int | None = None,
) -> list[Face]:
    """The same faces in the same order; `reason` is set on those to be left alone. Those that have one keep it.

    `size` is (width, height) of the picture. `which` is `all`, `largest`, `center` or numbers counted from 0 in the order
    given.
    `min_face_size` compares with the shorter side of the box. `max_faces` keeps the largest.
    """
    reasons = {n: face.reason for n, face in enumerate(faces) if face.reason is not None}
    for n, face in enumerate(faces):
        if n not in reasons and face.shorter_side < min_face_size:
            reasons[n] = f"smaller than the minimum: {face.shorter_side:.0f} px, {min_face_size:g} px are asked for"
    left = [n for n in range(len(faces)) if n not in reasons]
    wanted = _wanted(faces, left, size, which)
    reasons.update({n: _not_chosen(n, which) for n in left if n not in wanted})
    if max_faces is not None:
        by_size = sorted(wanted, key=lambda n: -faces[n].area)
        reasons.update(dict.fromkeys(by_size[max_faces:], f"more than {max_faces} faces: the largest are taken"))
    return [replace(face, reason=reasons.get(n)) for n, face in enumerate(faces)]


def inside_boxes(faces: Sequence[Face], boxes: Sequence[Box]) -> list[Face]:
    """The same faces; `reason` is set on those that share less than half of the smaller area with every box."""

    def judged(face: Face) -> Face:
        is_inside = any(inside(face.box, box) for box in boxes)
        return face if is_inside or face.reason else replace(face, reason="in none of the boxes given")

    return [judged(face) for face in faces]


def inside(face: Box, box: Box) -> bool:
    """Whether a face's box and one that was given are of one face."""
    return _overlap(face, box) >= SMALLEST_OVERLAP


def _overlap(a: Box, b: Box) -> float:
    """Common area as a part of the smaller one's; 0 for a box without area."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return max(width, 0.0) * max(height, 0.0) / smaller if smaller > 0 else 0.0


def _wanted(faces: Sequence[Face], left: list[int], size: tuple[int, int], which: str | tuple[int, ...]) -> list[int]:
    if not isinstance(which, str):
        return [n for n in left if n in which]
    if which == "all" or not left:
        return left
    if which == "largest":
        return [max(left, key=lambda n: faces[n].area)]
    x, y = size[0] / 2, size[1] / 2
    return [min(left, key=lambda n: (faces[n].centre[0] - x) ** 2 + (faces[n].centre[1] - y) ** 2)]


def _not_chosen(n: int, which: str | tuple[int, ...]) -> str:
    if isinstance(which, str):
        return f"not the {'most central' if which == 'center' else which} face"
    return f"number {n} was not asked for"
