"""Which of a film's faces are to be restored."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from ..options import RestoreOptions, VideoOptions
from .analysis import Survey
from .track import Track, choose_tracks


def why_left(found: Survey, options: RestoreOptions, video: VideoOptions, rate: float) -> dict[int, str | None]:
    """By number of the track: why it is left alone, or None. See `choose_tracks`; of the options, `min_face_size` counts for
    the track's usual size, and `max_faces` takes the largest of each shot."""
    reasons = choose_tracks(found.tracks, found.size, options.faces, video.min_duration, rate, found.cuts)
    for track in found.tracks:
        side = float(np.median((track.boxes[:, 2:] - track.boxes[:, :2]).min(axis=1)))
        if reasons[track.number] is None and side < options.min_face_size:
            reasons[track.number] = f"smaller than the minimum: {side:.0f} px, {options.min_face_size:g} px are asked for"
    if options.max_faces is not None:
        _leave_smaller(found, reasons, options.max_faces)
    if options.strength == 0:
        reasons = {number: reason or "the strength is 0" for number, reason in reasons.items()}
    return reasons


def _leave_smaller(found: Survey, reasons: dict[int, str | None], most: int) -> None:
    shots: dict[int, list[Track]] = {}
    for track in found.tracks:
        if reasons[track.number] is None:
            shots.setdefault(bisect_right(found.cuts, track.first), []).append(track)
    for tracks in shots.values():
        for track in sorted(tracks, key=lambda one: -float(one.areas.sum()))[most:]:
            reasons[track.number] = f"more than {most} faces: the largest are taken"
