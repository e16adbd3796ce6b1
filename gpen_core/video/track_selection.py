"""Selects the faces of a video that are restored."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from ..faces.select import size_reason
from ..options import RestoreOptions, VideoOptions
from .analysis import VideoAnalysis
from .track import Track, select_tracks


def skip_reasons(
    analysis: VideoAnalysis, options: RestoreOptions, video: VideoOptions, rate: float
) -> dict[int, str | None]:
    """Return the reason to skip each track by its number, or None, see `select_tracks`.

    The size limits apply to the median size of a track, and `max_faces` to each shot."""
    count = analysis.frame_count
    reasons = select_tracks(analysis.tracks, analysis.size, options.faces, video.min_duration, rate, analysis.cuts, count)
    for track in analysis.tracks:
        side = float(np.median((track.boxes[:, 2:] - track.boxes[:, :2]).min(axis=1)))
        reasons[track.number] = reasons[track.number] or size_reason(side, options)
    if options.max_faces is not None:
        _skip_smaller(analysis, reasons, options.max_faces)
    if options.strength == 0:
        reasons = {number: reason or "the strength is 0" for number, reason in reasons.items()}
    return reasons


def _skip_smaller(analysis: VideoAnalysis, reasons: dict[int, str | None], max_faces: int) -> None:
    shots: dict[int, list[Track]] = {}
    for track in analysis.tracks:
        if reasons[track.number] is None:
            shots.setdefault(bisect_right(analysis.cuts, track.first), []).append(track)
    for tracks in shots.values():
        for track in sorted(tracks, key=lambda one: -float(one.areas.sum()))[max_faces:]:
            reasons[track.number] = "not the largest face" if max_faces == 1 else f"not among the {max_faces} largest faces"
