"""One image of a run: what is read for it, and where its result goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .io import exists
from .locations import Location

Boxes = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class ImageJob:
    source: Location
    target: Location
    before_swap: Path | None = None
    """The image before a face swap."""
    background: Path | None = None
    """The same image enlarged."""
    boxes: Boxes | None = None
    """x0, y0, x1, y1: where faces are to be restored, and looked for closely."""
    region_mask: Path | None = None
    """A mask of any size over the whole image: white where faces may be restored, black where not."""

    quality: int | None = None
    """Of a JPEG or WebP, see `codecs.encode`."""
    max_pixels: int | None = None
    """That are read of each of its images, see `size_limits.check_pixels`."""

    @property
    def base(self) -> Location:
        """The image that faces are put into, whose size, format and metadata the result has."""
        return self.background or self.source


def input_locations(job: ImageJob) -> list[Location]:
    return [place for place in (job.source, job.before_swap, job.background, job.region_mask) if place is not None]


def is_done(job: ImageJob) -> bool:
    """Whether its result is there: it is written whole or not at all, by whichever run."""
    return exists(job.target)
