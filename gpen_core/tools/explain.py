"""The way of one photograph in pictures: what was found, what each face went through, and what came out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..faces.align import Alignment, align, extract
from ..faces.draw import TAKEN, WHITE, numbered, squared
from ..faces.face import Face
from ..images.image import FloatImage, Picture, from_array, rgb8
from ..images.resize import resize
from ..options import RestoreOptions
from ..pipeline.restorer import RestoreResult
from .contact_sheet import CELL, lettered, row, titles

RGB8 = NDArray[np.uint8]

ROWS = 20
"""Faces on the sheet; all have pictures of their own."""
TINT = 0.5
"""How much of the colour lies over what is taken of a restored face."""
NAMES = re.compile(r"1-found|2-squares|3-face-\d+-(cut|restored|mask)|4-mask|5-result|6-sheet")
"""What stages are called, whatever is found."""
ON_SHEET = ("as it was", "given by the network", "taken of it (blue)", "in the result")


@dataclass(frozen=True, eq=False)
class Stage:
    """One picture of the way."""

    name: str
    """For a file, without a suffix; in the order of the way."""
    image: RGB8
    text: str
    """What it shows."""


def stages(picture: Picture, result: RestoreResult, options: RestoreOptions) -> Iterator[Stage]:
    """The way from `picture` to the `result` that `FaceRestorer.restore_all` gave with `keep_crops` and these options.

    `1-found`: boxes, landmarks and numbers; `2-squares`: what the network gets of the picture. Of each restored face, at the
    network's size: `3-face-N-cut`, `3-face-N-restored`, and `3-face-N-mask`, where what is taken is tinted blue. `4-mask`:
    how much of each pixel is restored, white is all; `5-result`; `6-sheet`: the first 20 restored faces in rows, each
    upright at 320 px. Blue and orange can be told apart by the colour-blind."""
    ways = _ways(result, options)
    before, mask = rgb8(picture), from_array(result.mask)
    yield Stage("1-found", numbered(before, result.faces), "boxes, landmarks and numbers; orange: left alone")
    squares = {number: (face, alignment) for number, face, alignment, _ in ways}
    yield Stage("2-squares", squared(before, squares), "what the network gets of the picture; thick: a face's upper edge")
    rows: list[RGB8] = []
    for number, face, alignment, crop in ways:
        cut = extract(picture, alignment)
        taken = _tinted(cut, extract(mask, alignment)[..., 0])
        name = f"3-face-{number}"
        yield Stage(f"{name}-cut", _rgb8(cut), f"face {number} as the network gets it")
        yield Stage(f"{name}-restored", _rgb8(crop), f"face {number} as the network gives it, in the colours asked for")
        yield Stage(f"{name}-mask", taken, f"blue: how much of face {number} is taken")
        if len(rows) < ROWS:
            cells = [_rgb8(cut), _rgb8(crop), taken, _rgb8(extract(result.picture, alignment))]
            rows.append(
                row(lettered(f"face {number}\n{_size(face)}", CELL), [resize(one, (CELL, CELL), "cubic") for one in cells])
            )
    yield Stage("4-mask", rgb8(mask), "how much of each pixel is restored; white: all of it")
    yield Stage("5-result", rgb8(result.picture), "the result")
    if rows:
        yield Stage("6-sheet", np.vstack([titles(ON_SHEET), *rows]), "each face's way in a row")


def _ways(result: RestoreResult, options: RestoreOptions) -> list[tuple[int, Face, Alignment, FloatImage]]:
    """Number, face, square and what the network gave, of each face that was restored."""
    restored = [(number, face) for number, face in enumerate(result.faces) if face.restored]
    ways = []
    for (number, face), crop in zip(restored, result.crops, strict=True):
        alignment = align(face.landmarks, crop.shape[0], options.template)
        assert not isinstance(alignment, str)  # it was restored
        ways.append((number, face, alignment, crop))
    return ways


def _size(face: Face) -> str:
    return f"{face.width:.0f}x{face.height:.0f} px, score {face.score:.2f}"


def _tinted(crop: FloatImage, mask: FloatImage) -> RGB8:
    """The crop in grey, blue where the mask [S, S] is 1, with a white line where it is a half."""
    grey = np.repeat(crop.mean(2, keepdims=True), 3, axis=2)
    amount = TINT * mask[..., None]
    shown = _rgb8(grey + amount * (np.array(TAKEN, np.float32) / 255 - grey))
    edges, _ = cv2.findContours((mask > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn = np.ascontiguousarray(shown)
    cv2.drawContours(drawn, edges, -1, WHITE, max(1, mask.shape[0] // 256))
    return drawn


def _rgb8(image: FloatImage) -> RGB8:
    return np.asarray(np.rint(np.clip(image, 0, 1) * 255), np.uint8)
