"""Prepares the second pass of a video, of a piece of it or of images, after its faces were tracked."""

from __future__ import annotations

from ..options import RestoreOptions, VideoOptions
from ..pipeline.restorer import FaceRestorer
from ..progress import Progress, StageTimer
from .analysis import VideoAnalysis
from .frame_ranges import FrameRanges
from .frame_restorer import FrameRestorer
from .region_mask import RegionMask
from .torch_frame_restorer import frame_restorer_type
from .track_people import EmbeddingSource, match_people


def make_frame_restorer(
    analysis: VideoAnalysis,
    restorer: FaceRestorer,
    options: RestoreOptions,
    video: VideoOptions,
    rate: float,
    progress: Progress,
    embeddings: EmbeddingSource,
    region_mask: RegionMask | None,
    max_memory: int | None,
    timer: StageTimer | None = None,
    ranges: FrameRanges | None = None,
) -> tuple[FrameRestorer, list[str]]:
    """Select the tracks and return what restores their faces, and notes about the people of the options.

    Arguments are those of `FrameRestorer.from_analysis`. Raises the errors of `match_people`."""
    matches, notes = match_people(analysis.tracks, restorer.models.identity, options, embeddings)
    args = (rate, progress, region_mask, max_memory, timer, matches)
    frame_restorer_class = frame_restorer_type(restorer, options)
    return frame_restorer_class.from_analysis(analysis, restorer, options, video, *args, ranges=ranges), notes
