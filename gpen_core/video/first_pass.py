"""Runs the first pass over frames in threads: decoding and detection go ahead of the tracking."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from ..faces.detection.retinaface import Detector
from ..options import RestoreOptions, VideoOptions
from ..progress import ReplayableProgress, StageTimer
from .analysis import FrameT, VideoAnalysis, track_faces
from .frame_detection import detect_frames
from .frame_ranges import needs_detection
from .frame_restorer import PREFETCH_DEPTH
from .pass_progress import AnalyzeProgress, MeasureFace
from .reader import DecodedFrame, FrameReader
from .threaded_pipeline import ThreadedPipeline, timed
from .torch_frame import FrameUploads, release_uploads


def analyze_video(
    frames: Iterable[DecodedFrame],
    reader: FrameReader,
    detector: Detector,
    options: RestoreOptions,
    video: VideoOptions,
    rate: float,
    progress: ReplayableProgress,
    timer: StageTimer,
    is_only_pass: bool = False,
    measure: MeasureFace | None = None,
) -> VideoAnalysis:
    """Detect and track the faces of all `frames` of the `reader`, or of those in and around the ranges.

    See `analyze_frames`. The result has the notes of the reader."""
    count, is_needed = reader.info.expected_frames(video.start, video.end), needs_detection(video, reader.info, rate)
    measure = None if video.ranges else measure  # most frames may be outside of them, and their time is not known yet
    result = analyze_frames(frames, detector, options, rate, progress, timer, count, is_needed, is_only_pass, measure)
    return replace(result, notes=tuple(reader.notes))


def analyze_frames(
    frames: Iterable[FrameT],
    detector: Detector,
    options: RestoreOptions,
    rate: float,
    progress: ReplayableProgress,
    timer: StageTimer | None = None,
    count: int | None = None,
    is_needed: Callable[[FrameT], bool] = lambda frame: True,
    is_only_pass: bool = False,
    measure: MeasureFace | None = None,
) -> VideoAnalysis:
    """Detect and track the faces of consecutive frames.

    `rate`: frames per second. `count`: about the number of frames, for `progress`. Frames that `is_needed` leaves out get no
    faces. `is_only_pass` and `measure` as in `AnalyzeProgress`. Raises the errors of `track_faces`, of the detector and of
    `measure`."""
    events = AnalyzeProgress(progress, options, count, is_only_pass, measure)
    timer, waited = timer or StageTimer({}), StageTimer({})
    with ThreadedPipeline(progress.replay) as pipeline:
        decoded = pipeline.prefetch(timed(iter(frames), timer, "decode"), PREFETCH_DEPTH)
        uploaded = FrameUploads(detector.device).add(decoded, pipeline, PREFETCH_DEPTH)
        found = detect_frames(uploaded, detector, options, rate, pipeline.raise_if_stopped, timer, is_needed)
        detections = timed(
            pipeline.prefetch(release_uploads(found), PREFETCH_DEPTH),
            waited,
            "detect",
        )
        with timer.stage("track"):
            result = track_faces(events.watch(detections), rate, options, events.done)
    timer.seconds["track"] -= waited.seconds["detect"]
    return result
