"""A few frames of a film before and after, to look at before hours are spent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ..errors import InputError, memory_for
from ..faces.draw import font
from ..images.image import FloatImage, Picture, rgb8
from ..optional_packages import calls_of
from ..options import RestoreOptions, VideoOptions
from ..pipeline.inputs import Frame
from ..pipeline.restorer import FaceRestorer, RestoreResult
from ..progress import Progress, ProgressEvent, no_progress
from .probe import Film
from .reader import FilmFrame, Reader
from .restore_video import film_of

RGB8 = NDArray[np.uint8]

WIDTH = 720  # px: of each picture; less where the film is smaller
LETTERS, MARGIN = 18, 8  # px


@memory_for("this preview", "choose a smaller detection size")
@calls_of("av")
def preview(
    source: Path,
    count: int,
    restorer: FaceRestorer,
    options: RestoreOptions | None = None,
    video: VideoOptions | None = None,
    *,
    region_mask: FloatImage | None = None,
    progress: Progress | None = None,
    max_memory: int | None = None,
) -> RGB8:
    """[H, W, 3]: `count` frames spread over the film, a row for each: as it is, and with its faces restored.

    Each frame stands for itself: nothing is followed or steadied, and `faces` chooses among those of the frame. Raises
    `InputError` for a film whose length is not known, and what `restore_video` raises."""
    options, video, tell = options or RestoreOptions(), video or VideoOptions(), progress or no_progress
    film = film_of(source, video)
    rows = []
    for done, frame in enumerate(_spread(film, video, count), 1):
        result = restorer.restore_all([Frame(frame.picture, region_mask=region_mask)], options, max_memory=max_memory)[0]
        rows.append(_row(frame, result))
        tell(ProgressEvent("restore", done, count, "frame", "Restoring frames"))
    return np.vstack(rows)


def _spread(film: Film, video: VideoOptions, count: int) -> Iterator[FilmFrame]:
    """In the middles of `count` equal parts of what is to be restored; the last frame before where there is none."""
    start = video.start or 0.0
    end = min((seconds for seconds in (video.end, film.seconds) if seconds is not None), default=None)
    if end is None:
        raise InputError(f"{film.path} does not say how long it is. Say where to end, in seconds.")
    last: FilmFrame | None = None
    for n in range(count):
        at = start + (n + 0.5) / count * (end - start)
        last = next(iter(Reader(film, at, video.end).frames()), last)
        if last is None:
            raise InputError(f"{film.path} has no frame after {at:.2f} s; start or end earlier.")
        yield last


def _row(frame: FilmFrame, result: RestoreResult) -> RGB8:
    text = f"{frame.seconds:.2f} s: {result.summary}"
    before, after = (_small(picture) for picture in (frame.picture, result.picture))
    gap = np.full((before.shape[0], MARGIN, 3), 255, np.uint8)
    pictures = np.hstack([before, gap, after])
    label = Image.new("RGB", (pictures.shape[1], LETTERS + 2 * MARGIN), "white")
    ImageDraw.Draw(label).text((MARGIN, MARGIN), text, fill="black", font=font(LETTERS))
    return np.vstack([np.asarray(label, np.uint8), pictures])


def _small(picture: Picture) -> RGB8:
    pixels = rgb8(picture)
    if picture.width <= WIDTH:
        return pixels
    size = (WIDTH, max(1, round(picture.height * WIDTH / picture.width)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
