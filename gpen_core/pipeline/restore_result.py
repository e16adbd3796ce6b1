"""What `FaceRestorer` gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..faces.face import Face, faces_text
from ..images.image import FloatImage, ImageData
from .no_face import NO_FACE, no_face_advice
from .source_file import SourceFile


@dataclass(frozen=True, eq=False)
class RestoreResult:
    """A restored image and how it came about."""

    mask: NDArray[np.float32]
    """[H, W] in [0, 1]: how much of each of its pixels is restored."""
    faces: tuple[Face, ...]
    """Every face found, numbered by its place."""
    smallest_face: float
    """Side in pixels of about the smallest face that could be found at this detection size."""
    largest_face: float
    """The same of the largest."""
    seconds: dict[str, float]
    """Wall time by stage: upscale if asked for, detect, align, network, mask, blend; of all images restored together."""
    image_data: ImageData
    """`image` before it was turned into the input's kind. Where nothing changed it is the input itself, not to be written
    to."""
    crops: tuple[FloatImage, ...] = ()
    """Each restored face as the network gave it, [S, S, 3] RGB in [0, 1], in `faces`' order, if they were to be kept."""
    notes: tuple[str, ...] = ()
    """What else is to be said, such as boxes in which no face was found."""
    source_file: SourceFile = field(default_factory=SourceFile)
    """What the file carried that `save` writes into the new one: the image's, or the background's where there was one."""

    def __repr__(self) -> str:
        counts = faces_text(len(self.faces), sum(face.restored for face in self.faces))
        return f"RestoreResult({self.image_data.width}x{self.image_data.height} px, {counts})"

    @cached_property
    def image(self) -> Any:
        """Same kind, dtype, size and alpha as the input, or as the background where there was one (for a path: an array);
        with `RestoreOptions.upscale` enlarged, faces or none. Made when first asked for, and never the input itself."""
        return (self.image_data if self.is_changed else self.image_data.writable()).to_input_type()

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the image, whole or not at all, in the format that the suffix of `path` asks for (without one: the
        input's). The metadata and color profile of the input's file go into it; what cannot be kept is logged as a warning.
        Where nothing was restored and the format is the same, the input's file is written as it was.

        Raises `OutputError` where it cannot be written or the format cannot hold the image."""
        self.source_file.save(path, self.image_data, is_same=not self.is_changed)

    @property
    def is_changed(self) -> bool:
        return bool(self.mask.any())

    @property
    def summary(self) -> str:
        """One line for people: `3 faces found, 2 restored, 1 skipped`; without a face, which could be found and what to
        try."""
        if not self.faces:
            return f"{NO_FACE}; {no_face_advice(self.smallest_face, self.largest_face)}"
        return faces_text(len(self.faces), sum(face.restored for face in self.faces))
