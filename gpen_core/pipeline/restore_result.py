"""The result of `FaceRestorer.restore`."""

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
    """A restored image, its faces and details of the restoration."""

    mask: NDArray[np.float32]
    """[H, W] in [0, 1]: how much of each pixel is restored."""
    faces: tuple[Face, ...]
    """All detected faces. The number of a face is its index."""
    smallest_face: float
    """Approximate size in pixels of the smallest face that is detectable at this detection size."""
    largest_face: float
    """Approximate size in pixels of the largest detectable face."""
    seconds: dict[str, float]
    """Wall time by stage (upscale, detect, align, network, mask, blend, identity), for all images of the batch together."""
    image_data: ImageData
    """`image` before conversion to the type of the input. If nothing changed, it is the input itself: do not write to it."""
    crops: tuple[FloatImage, ...] = ()
    """The network's output for each restored face, [S, S, 3] RGB in [0, 1], in the order of `faces`. Only if kept."""
    notes: tuple[str, ...] = ()
    """Remarks, for example on boxes without a face."""
    source_file: SourceFile = field(default_factory=SourceFile)
    """Metadata that `save` writes to the new file, from the background if there is one, else from the image."""

    def __repr__(self) -> str:
        counts = faces_text(len(self.faces), sum(face.restored for face in self.faces))
        return f"RestoreResult({self.image_data.width}x{self.image_data.height} px, {counts})"

    @cached_property
    def image(self) -> Any:
        """The restored image, with the type, dtype, size and alpha of the background if there is one, else of the input.

        For a path it is an array. With `RestoreOptions.upscale` it is upscaled, also without a face. It is created on first
        access, and is never the input itself."""
        return (self.image_data if self.is_changed else self.image_data.writable()).to_input_type()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the image atomically, in the format of the suffix of `path`, or without a suffix in the input's format.

        Metadata and color profile of the input file are kept. A warning names metadata that the format cannot store. If
        nothing was restored and the format is the same, the input file is copied.

        Raises `OutputError` if the file cannot be written or the format cannot store the image."""
        self.source_file.save(path, self.image_data, is_same=not self.is_changed)

    @property
    def is_changed(self) -> bool:
        return bool(self.mask.any())

    @property
    def summary(self) -> str:
        """A summary in one line: `3 faces found, 2 restored, 1 skipped`. Without a face, the detectable sizes and advice."""
        if not self.faces:
            return f"{NO_FACE}; {no_face_advice(self.smallest_face, self.largest_face)}"
        return faces_text(len(self.faces), sum(face.restored for face in self.faces))
