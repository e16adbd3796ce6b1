"""Region masks of a video: one mask for all frames, or a mask for each frame."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import repeat
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files.path_checks import AnyPath, is_folder, local_path
from ..images import codecs, formats
from ..images.image import FloatImage, to_luminance
from ..images.open_file import open_image
from ..options import VideoOptions
from ..pipeline.inputs import resize_mask
from ..progress import no_progress
from .probe import VideoInfo, probe
from .reader import DecodedFrame, FrameReader
from .work_dir import source_digest

ESTIMATE_TOLERANCE = 0.02  # of the number of frames in headers, which may be estimates


@dataclass(frozen=True)
class MaskClip:
    """A mask video, of which a part may be used, with a mask for each frame that is restored."""

    path: AnyPath
    """A string or `os.PathLike`."""
    start: float | None = None
    """Seconds after its first frame."""
    end: float | None = None


RegionMaskLike = NDArray[Any] | AnyPath | MaskClip
"""A mask [H, W] for all frames, masks [N, H, W], or the path (a string or `os.PathLike`) of an image, a video or a
folder of images."""


class RegionMask(Protocol):
    """How much of each pixel of each frame may be restored. Masks of any size are resized to the frames'."""

    @property
    def digest(self) -> str:
        """Differs for other masks."""

    def check_count(self, frame_count: int, on_frame: Callable[[], None] = lambda: None) -> None:
        """Raise `InputError` unless there is a mask for each of the video's frames. `on_frame` may raise to stop it."""

    def masks(self, first: int, size: tuple[int, int]) -> Iterator[FloatImage]:
        """Yield the masks [H, W] in [0, 1] of the frames from number `first` on, in that width and height.

        Raises `InputError` for an invalid mask."""

    def mask_at(self, seconds: float) -> NDArray[Any]:
        """Return the mask [h, w] of the frame at this time, counted from the first frame of the video."""


@dataclass(frozen=True, eq=False)
class StillMask:
    """One mask for all frames."""

    mask: NDArray[Any]

    @property
    def digest(self) -> str:
        return _digest(self.mask)

    def check_count(self, frame_count: int, on_frame: Callable[[], None] = lambda: None) -> None:
        """Do nothing, because it has no frames."""

    def masks(self, first: int, size: tuple[int, int]) -> Iterator[FloatImage]:
        return repeat(resize_mask(self.mask, size))

    def mask_at(self, seconds: float) -> NDArray[Any]:
        return self.mask


@dataclass(frozen=True, eq=False)
class MaskArray:
    """A mask for each frame, in memory."""

    array: NDArray[Any]
    """[N, H, W], with values as in `RestoreInput.region_mask`."""
    rate: float
    """Frames per second of the video."""

    @property
    def digest(self) -> str:
        return _digest(self.array)

    def check_count(self, frame_count: int, on_frame: Callable[[], None] = lambda: None) -> None:
        _raise_if_counts_differ("The region mask", len(self.array), frame_count)

    def masks(self, first: int, size: tuple[int, int]) -> Iterator[FloatImage]:
        return (resize_mask(mask, size) for mask in self.array[first:])

    def mask_at(self, seconds: float) -> NDArray[Any]:
        mask: NDArray[Any] = self.array[min(len(self.array) - 1, round(seconds * self.rate))]
        return mask


@dataclass(eq=False)
class MaskVideo:
    """A mask for each frame, in a video or a folder of images. Its luminance counts: white may be restored."""

    info: VideoInfo
    start: float | None
    """The part that is restored, as in `VideoOptions`. None after `check_count` if the masks are only of this part."""
    end: float | None
    _found: NDArray[np.int64] | None = None

    @property
    def digest(self) -> str:
        return source_digest(self.info.path, no_progress)

    @property
    def _reader(self) -> FrameReader:
        return FrameReader(self.info, self.start, self.end, "keep")

    def _timestamps(self, on_frame: Callable[[], None] = lambda: None) -> NDArray[np.int64]:
        if self._found is None:
            self._found = self._reader.timestamps(on_frame)
        return self._found

    def check_count(self, frame_count: int, on_frame: Callable[[], None] = lambda: None) -> None:
        is_part = self.start is not None or self.end is not None
        count = len(self._timestamps(on_frame))
        if count != frame_count and is_part and _may_equal(self.info.frame_count, frame_count):
            self.start = self.end = self._found = None
            count, is_part = len(self._timestamps(on_frame)), False
        part = " in this part" if is_part else ""
        _raise_if_counts_differ(f"The region mask {self.info.path}", count, frame_count, part)

    def masks(self, first: int, size: tuple[int, int]) -> Iterator[FloatImage]:
        for frame in self._reader.frames(first, self._timestamps()):
            yield resize_mask(_frame_luminance(frame), size)

    def mask_at(self, seconds: float) -> NDArray[Any]:
        frames = FrameReader(self.info, seconds, self.end, "keep").frames()
        for frame in frames:
            return _frame_luminance(frame)
        raise InputError(f"The region mask {self.info.path} has no frame at {seconds:.2f} s. Give a mask for each frame.")


def open_region_mask(mask: RegionMaskLike | None, info: VideoInfo, video: VideoOptions) -> RegionMask | None:
    """Open the region mask of a video.

    Raises `InputError` if it cannot be read, or if its header shows that it has another number of frames than the
    video."""
    if mask is None:
        return None
    opened = open_mask(mask, 1 / info.frame_duration, video.start, video.end)
    if isinstance(opened, MaskVideo) and opened.start is None and opened.end is None:
        count, frame_count = opened.info.frame_count, info.frame_count
        is_whole = video.start is None and video.end is None
        if is_whole and count and frame_count and not _may_equal(count, frame_count):
            _raise_if_counts_differ(f"The region mask {opened.info.path}", count, frame_count)
    return opened


def open_mask(mask: RegionMaskLike, rate: Fraction, start: float | None = None, end: float | None = None) -> RegionMask:
    """Open a region mask. `rate`: frames per second of the video, of which the part from `start` to `end` is restored.

    Raises `InputError` if it cannot be read."""
    if isinstance(mask, MaskClip):
        is_trimmed = mask.start is not None or mask.end is not None
        return MaskVideo(probe(local_path(mask.path)), *((mask.start, mask.end) if is_trimmed else (start, end)))
    if not isinstance(mask, (str, PathLike)):
        return StillMask(mask) if np.ndim(mask) != 3 else MaskArray(np.asarray(mask), float(rate))
    path = local_path(mask)
    if is_still(path):
        return StillMask(to_luminance(codecs.read(path).image))
    return MaskVideo(probe(path, rate if is_folder(path) else None), start, end)


def is_still(path: Path) -> bool:
    """Whether a mask is one image for all frames. Raises `InputError` if it cannot be read."""
    suffix = path.suffix.lower()
    if is_folder(path) or suffix not in formats.INPUT_SUFFIXES:
        return False
    if formats.INPUT_SUFFIXES[suffix] not in formats.ANIMATED_FORMATS:
        return True
    with open_image(path) as (file, _), formats.open_header(file) as image:
        return not formats.is_animated(image)


def _frame_luminance(frame: DecodedFrame) -> FloatImage:
    return to_luminance(replace(frame.image, alpha=frame.alpha))


def _digest(mask: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(mask).tobytes()).hexdigest()


def _may_equal(estimate: int | None, frame_count: int) -> bool:
    """Whether a number of frames in a header may be `frame_count`."""
    return estimate is None or abs(estimate - frame_count) <= 1 + ESTIMATE_TOLERANCE * frame_count


def _raise_if_counts_differ(name: str, count: int, frame_count: int, part: str = "") -> None:
    if count != frame_count:
        raise InputError(
            f"{name} has {count} frames{part}, but the video has {frame_count}. Give a mask for each frame, or one image "
            "for all frames."
        )
