"""What a detector looks at: reductions of whole pictures, and squares cut out of them; here with OpenCV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from ...images.image import FloatImage, Picture
from ...images.resize import resize_longest
from ..align import Alignment, extract
from .rotation import turned

Batch = FloatImage | torch.Tensor
"""[B, H, W, 3] BGR in [0, 255]; a tensor lies where the detector computes."""


class Scene(Protocol):
    """Pictures of equal size that are searched together. They are known by their numbers."""

    def level(self, number: int, members: Sequence[int], quarters: int) -> Batch:
        """Those pictures reduced to one of the sides that were asked for, turned counter-clockwise by so many quarters."""

    def squares(self, wanted: Sequence[tuple[int, Alignment]]) -> Batch:
        """Squares of one size cut out of the pictures as `align.extract` does; one that lies beyond its picture is black."""


MakeScene = Callable[[Sequence[Picture], Sequence[int]], Scene]
"""Of pictures of equal size, and the longer side of each level, the largest first; see `pyramid.level_sides`."""


class OpenCVScene:
    """On the CPU."""

    def __init__(self, pictures: Sequence[Picture], sides: Sequence[int]) -> None:
        self._pictures = pictures
        whole = np.stack([picture.bgr_255(sides[0]) for picture in pictures])
        first = resize_longest(whole, sides[0])
        self._levels = [first, *(resize_longest(first, side) for side in sides[1:])]

    def level(self, number: int, members: Sequence[int], quarters: int) -> FloatImage:
        batch = self._levels[number]
        if len(members) < len(batch):
            batch = batch[list(members)]
        return turned(batch, quarters) if quarters else batch

    def squares(self, wanted: Sequence[tuple[int, Alignment]]) -> FloatImage:
        crops = np.stack([_square(self._pictures[n], alignment) for n, alignment in wanted])
        return np.asarray(crops[..., ::-1] * np.float32(255))  # RGB in [0, 1] -> BGR in [0, 255]


def _square(picture: Picture, alignment: Alignment) -> FloatImage:
    if alignment.region(*picture.size).empty:  # a box may reach out of the picture, middle and all
        return np.zeros((alignment.size, alignment.size, 3), np.float32)
    return extract(picture, alignment)
