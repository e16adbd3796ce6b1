"""Restores a short piece of a video and writes it beside the original, to check the options before a long run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..errors import OutputError, oom_context
from ..faces.draw import load_font
from ..files.path_checks import AnyPath, local_path
from ..images.codecs import EncodedImage
from ..images.image import ImageData, Pixels
from ..optional_packages import version_guard
from ..options import RestoreOptions, VideoOptions, base_selection
from ..pipeline.restorer import FaceRestorer
from ..progress import Progress, ReplayableProgress, no_progress
from .check_video import check_video, raise_if_faces_missing
from .encoding import resolve_encoding
from .first_pass import analyze_frames
from .frame_ranges import FrameRanges
from .frame_restorer import RestoredFrame
from .join_people import join_people, load_embedder
from .min_identity import keep_identity
from .mux import concatenate
from .pass_progress import RestoreProgress
from .planes import Planes
from .probe import VideoInfo
from .reader import DecodedFrame, FrameReader
from .region_mask import RegionMaskLike, open_region_mask
from .threaded_pipeline import ThreadedPipeline
from .torch_frame_restorer import frame_restorer_type
from .track_people import EmbeddingSource, match_people
from .writer import SegmentWriter, image_to_planes

LABELS = ("Original", "Restored")
LABEL_HEIGHT = 1 / 18  # of the frame's
MIN_FONT_SIZE = 12  # px


@oom_context("this preview", "choose a smaller detection size")
@version_guard("av")
def preview_clip(
    source: AnyPath,
    target: AnyPath,
    seconds: float,
    restorer: FaceRestorer,
    options: RestoreOptions | None = None,
    video: VideoOptions | None = None,
    *,
    region_mask: RegionMaskLike | None = None,
    progress: Progress | None = None,
    max_memory: int | None = None,
    frame_memory: int | None = None,
    on_note: Callable[[str], None] = lambda note: None,
) -> int:
    """Restore a piece of this many seconds, and write it into `target` with the original to its left. Return its frames.

    The piece begins at `video.start` or in the first range, or lies in the middle of the video. It is restored as in a whole
    run. Sound and the other streams of the piece are copied. `on_note` is called with notes on the people of the piece, and
    if face numbers count other people than in a whole run. Other arguments and errors are those of `restore_video`."""
    restorer.require_restoration("videos")
    source, target, options = local_path(source), local_path(target, OutputError), RestoreOptions.or_default(options)
    replay = ReplayableProgress(progress or no_progress)
    video = VideoOptions.or_default(video)
    info, _ = check_video(source, target, options, video, frame_memory)
    part = _piece(info, video, seconds)
    mask = open_region_mask(region_mask, info, part)
    wide = replace(info, size=(2 * _even_width(info), info.size[1]))
    encoding = resolve_encoding(wide, target, part)
    restorer.prepare(options, replay)
    reader = FrameReader(info, part.start, part.end, part.interlaced)
    identity = restorer.models.identity
    load_embedder(identity, replay, part)
    count = info.expected_frames(part.start, part.end)
    analysis = analyze_frames(reader.frames(), restorer.detector, options, info.rate, replay, count=count)
    embeddings = EmbeddingSource(partial(reader.frames, timestamps=analysis.pts), replay)
    analysis, notes = join_people(analysis, identity, part, embeddings)
    matches, person_notes = match_people(analysis.tracks, identity, options, embeddings)
    raise_if_faces_missing(options.faces, len(analysis.tracks), info, part)
    if mask is not None:
        mask.check_count(analysis.frame_count, replay.replay)
    args = (restorer, options, part, info.rate, replay, mask, max_memory, None, matches)
    ranges = FrameRanges.from_options(part, info, analysis)
    frame_restorer = frame_restorer_type(restorer, options).from_analysis(analysis, *args, ranges=ranges)
    notes += [*person_notes, *keep_identity(frame_restorer, analysis, identity, embeddings)]
    if not isinstance(base_selection(options.faces), str) and part.start != (video.start or 0.0):
        notes.append(
            f"The numbers of faces count only the people from {part.start:.2f} s on. In the whole run, they may differ."
        )
    for note in notes:
        on_note(note)
    events = RestoreProgress(replay, frame_restorer.face_counts(analysis.frame_count))
    with _temporary_folder(target) as name:
        segment = Path(name) / "segment.part"
        with ThreadedPipeline(replay.replay) as pipeline, SegmentWriter(segment, wide, encoding) as writer:
            for one in frame_restorer.run(reader.frames(0, analysis.pts), range(analysis.frame_count), pipeline):
                frame, image = _side_by_side(one, info)
                writer.write(frame, image, (image.pixels != frame.image.pixels).any(axis=2))
                events.done(one.frame.number)
        concatenate([segment], replace(reader, info=wide), target, encoding, replay)
    return analysis.frame_count


def _temporary_folder(target: Path) -> tempfile.TemporaryDirectory[str]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".preview.", dir=target.parent)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}.") from error


def _piece(info: VideoInfo, video: VideoOptions, seconds: float) -> VideoOptions:
    """Return the options with start, end and ranges of the piece, which begins in the first range if there are ranges."""
    start, end = video.start, video.end
    if video.ranges:
        start = max(start or 0.0, video.ranges[0][0])
    if start is None:
        last = min((one for one in (end, info.duration) if one is not None), default=seconds)
        start = max(0.0, (last - seconds) / 2)
    end = start + seconds if end is None else min(end, start + seconds)
    return replace(video, start=start, end=end, ranges=tuple(one for one in video.ranges if one[0] < end))


def _even_width(info: VideoInfo) -> int:
    """Return the width without columns that share a chroma sample with the other half."""
    return info.size[0] - info.size[0] % info.layout.subsampling(1)[0]


def _side_by_side(one: RestoredFrame[DecodedFrame], info: VideoInfo) -> tuple[DecodedFrame, ImageData]:
    """Return the frame twice, and the image with the restored frame to the right and both labels."""
    frame, width = one.frame, _even_width(info)
    native = frame.native
    planes = image_to_planes(native.image, info) if isinstance(native, EncodedImage) else native
    layout, halves = planes.layout, []
    for number, array in enumerate(planes.arrays):
        own = width // layout.subsampling(number)[0]
        halves.append(np.hstack([array[:, :own]] * 2))
    before, after = (image.pixels[:, :width] for image in (frame.image, one.image))
    shown = np.hstack([before, after])
    for label, left in zip(LABELS, (0, width)):
        _draw_label(shown, label, left)
    doubled = replace(
        frame,
        image=ImageData(np.hstack([before, before])),
        native=Planes(tuple(map(np.ascontiguousarray, halves)), planes.format, planes.colors),
    )
    return doubled, ImageData(shown)


def _draw_label(pixels: Pixels, text: str, left: int) -> None:
    """Draw a label into the upper left corner of a half: white on black."""
    font = load_font(max(MIN_FONT_SIZE, round(pixels.shape[0] * LABEL_HEIGHT)))
    x0, y0, x1, y1 = (round(v) for v in ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((0, 0), text, font=font))
    margin = max(2, (y1 - y0) // 3)
    label = Image.new("L", (x1 - x0 + 2 * margin, y1 - y0 + 2 * margin), 0)
    ImageDraw.Draw(label).text((margin - x0, margin - y0), text, fill=255, font=font)
    area = pixels[: label.height, left : left + label.width]
    gray = np.asarray(label)[: area.shape[0], : area.shape[1], None].astype(pixels.dtype)
    area[...] = gray * (257 if pixels.dtype == np.uint16 else 1)
