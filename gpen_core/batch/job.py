"""One image of a run: its input files and its output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .image_io import exists
from .locations import Location

Boxes = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class ImageJob:
    """One image to restore."""

    source: Location
    target: Location
    before_swap: Path | None = None
    """The image before the face swap."""
    background: Path | None = None
    """An upscaled copy of the image."""
    boxes: Boxes | None = None
    """x0, y0, x1, y1 in pixels: only faces in these boxes are restored, and the boxes are searched more closely."""
    region_mask: Path | None = None
    """A mask image of any size: white where faces may be restored, black elsewhere."""
    quality: int | None = None
    """The quality of a JPEG or WebP, see `codecs.encode`."""
    max_pixels: int | None = None
    """The maximum size of each input image, see `size_limits.check_pixels`."""

    @property
    def base(self) -> Location:
        """The image into which faces are pasted. The result has its size, format and metadata."""
        return self.background or self.source


def input_locations(job: ImageJob) -> list[Location]:
    return [place for place in (job.source, job.before_swap, job.background, job.region_mask) if place is not None]


def is_done(job: ImageJob) -> bool:
    """Whether the output exists. Outputs are written atomically, so an existing output is complete."""
    return exists(job.target)
