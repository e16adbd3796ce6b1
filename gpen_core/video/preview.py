"""Restores a few frames of a video, to check the options before a long run."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image, ImageDraw

from ..errors import InputError, oom_context
from ..faces.draw import load_font
from ..faces.face import faces_text
from ..files.path_checks import AnyPath
from ..images.image import RGB8, ImageData, to_rgb8
from ..optional_packages import version_guard
from ..options import RestoreOptions, VideoOptions
from ..pipeline.inputs import RestoreInput
from ..pipeline.restore_result import RestoreResult
from ..pipeline.restorer import FaceRestorer
from ..progress import Progress, ProgressEvent, no_progress
from .check_video import probe_video, raise_if_past_end
from .probe import VideoInfo
from .reader import DecodedFrame, FrameReader
from .region_mask import RegionMaskLike, open_region_mask

MAX_WIDTH = 720  # px, of each image
FONT_SIZE, MARGIN = 18, 8  # px


@oom_context("this preview", "choose a smaller detection size")
@version_guard("av")
def preview(
    source: AnyPath,
    count: int,
    restorer: FaceRestorer,
    options: RestoreOptions | None = None,
    video: VideoOptions | None = None,
    *,
    region_mask: RegionMaskLike | None = None,
    progress: Progress | None = None,
    max_memory: int | None = None,
) -> RGB8:
    """Return a sheet [H, W, 3] with `count` frames spread over the video, one row for each: before and after.

    Each frame is restored by itself, without tracking or smoothing, and `faces` selects among the faces of the frame.
    Raises `InputError` for a video of unknown length, and the errors of `restore_video`."""
    restorer.require_restoration("videos")
    options, video, notify = RestoreOptions.or_default(options), VideoOptions.or_default(video), progress or no_progress
    info = probe_video(source, video)
    raise_if_past_end(info, video)
    mask = open_region_mask(region_mask, info, video)
    rows = []
    for done, frame in enumerate(_sample_frames(info, video, count), 1):
        own = None if mask is None else mask.mask_at(frame.seconds)
        result = restorer.restore_batch([RestoreInput(frame.image, region_mask=own)], options, max_memory=max_memory)[0]
        rows.append(_row(frame, result))
        notify(ProgressEvent("restore", done, count, "frame", "Restoring frames"))
    return np.vstack(rows)


def _sample_frames(info: VideoInfo, video: VideoOptions, count: int) -> Iterator[DecodedFrame]:
    """Yield the frames in the middle of `count` equal parts of the video or of the ranges, or the last one before."""
    start = video.start or 0.0
    end = min((seconds for seconds in (video.end, info.duration) if seconds is not None), default=None)
    if end is None:
        raise InputError(f"The length of {info.path} is unknown. Set an end in seconds.")
    spans = [(max(first, start), min(stop, end)) for first, stop in video.ranges or [(start, end)]]
    total = sum(stop - first for first, stop in spans)

    def frame_at(seconds: float) -> DecodedFrame | None:
        return next(iter(FrameReader(info, seconds, video.end, video.interlaced).frames()), None)

    last: DecodedFrame | None = None
    for n in range(count):
        at, rest = spans[0][0], (n + 0.5) / count * total
        for first, stop in spans:
            if rest < stop - first:
                at = first + rest
                break
            rest -= stop - first
        last = frame_at(at) or last or frame_at(spans[0][0])  # which may be the only frame
        if last is None:
            raise InputError(f"{info.path} has no frame after {at:.2f} s. Set an earlier start or end.")
        yield last


def _row(frame: DecodedFrame, result: RestoreResult) -> RGB8:
    counts = faces_text(len(result.faces), sum(face.restored for face in result.faces))  # short, to fit on the sheet
    text = f"{frame.seconds:.2f} s: {counts}"
    before, after = (_downscale(image) for image in (frame.image, result.image_data))
    gap = np.full((before.shape[0], MARGIN, 3), 255, np.uint8)
    images = np.hstack([before, gap, after])
    label = Image.new("RGB", (images.shape[1], FONT_SIZE + 2 * MARGIN), "white")
    ImageDraw.Draw(label).text((MARGIN, MARGIN), text, fill="black", font=load_font(FONT_SIZE))
    return np.vstack([np.asarray(label, np.uint8), images])


def _downscale(image: ImageData) -> RGB8:
    pixels = to_rgb8(image)
    if image.width <= MAX_WIDTH:
        return pixels
    size = (MAX_WIDTH, max(1, round(image.height * MAX_WIDTH / image.width)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
