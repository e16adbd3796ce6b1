"""How long the second pass over a video needs for a face, measured in the first pass."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from ..faces.face import Face
from ..options import RestoreOptions, VideoOptions
from ..pipeline.restorer import FaceRestorer
from ..progress import ReplayableProgress
from .analysis import FrameLike, VideoAnalysis
from .sequence import SequenceFrame
from .threaded_pipeline import ThreadedPipeline
from .torch_frame_restorer import frame_restorer_type
from .track import Track

TIMED_FRAMES = 3  # the filter compares each with the others, as in a video with those around it


def seconds_per_face(
    frame: FrameLike,
    face: Face,
    restorer: FaceRestorer,
    options: RestoreOptions,
    video: VideoOptions,
    progress: ReplayableProgress,
    max_memory: int | None = None,
) -> float:
    """Restore one face of a frame a few times, as a video, and return the seconds per frame.

    One frame before them is not timed, because the first run of a network prepares it. Raises the errors of
    `FrameRestorer`."""
    count = TIMED_FRAMES
    points = np.repeat(np.asarray(face.landmarks, np.float64)[None], count, axis=0)
    boxes, scores = np.repeat(np.array([face.box], np.float64), count, axis=0), np.full(count, face.score)
    track = Track(0, 0, points, boxes, scores, points, fade_in=False, fade_out=False, person=0)
    analysis = VideoAnalysis(frame.image.size, np.arange(count), (), (track,), frozenset())
    options, video = replace(options, faces="all", max_faces=None), replace(video, min_duration=0)
    make = frame_restorer_type(restorer, options).from_analysis
    frame_restorer = make(analysis, restorer, options, video, 1.0, progress, None, max_memory)
    for number in (1, count):
        start = time.perf_counter()
        frames = [SequenceFrame(n, frame.image) for n in range(number)]
        with ThreadedPipeline(progress.replay) as pipeline:
            list(frame_restorer.run(frames, range(number), pipeline))
    return (time.perf_counter() - start) / count
