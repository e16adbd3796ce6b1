"""Selects the faces of a video that are restored."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..faces.identity import PersonMatch
from ..faces.select import ZERO_STRENGTH, person_reason, size_reason
from ..options import RestoreOptions, VideoOptions, base_selection, has_wanted_person
from .analysis import VideoAnalysis
from .frame_ranges import FrameRanges
from .track import Track, people_by_shot, select_tracks, total_area, with_persons


def skip_reasons(
    analysis: VideoAnalysis,
    options: RestoreOptions,
    video: VideoOptions,
    rate: float,
    matches: Mapping[int, PersonMatch | None] | None = None,
    ranges: FrameRanges | None = None,
) -> dict[int, str | None]:
    """Return the reason to skip each track by its number, or None, see `select_tracks`.

    The size limits apply to the median size of a track, and `max_faces` to the people of each shot. `matches` say which
    person each track is, if the options have references (see `track_people`). With `ranges`, only tracks in them
    compete."""
    tracks, count, selection = analysis.tracks, analysis.frame_count, base_selection(options.faces)
    others: dict[int, str | None] = {}
    if not isinstance(selection, str):
        selection = tuple(with_persons(tracks, selection))
    if ranges is not None:
        others = {track.number: "outside of the ranges" for track in tracks if not ranges.contains(track)}
    if matches is not None:
        numbers = set() if isinstance(selection, str) else with_persons(tracks, selection)
        reasons = {t.number: person_reason(matches[t.number], bool({t.number, t.person} & numbers)) for t in tracks}
        others = {**{number: reason for number, reason in reasons.items() if reason is not None}, **others}
        if has_wanted_person(options.faces) and not isinstance(selection, str):
            selection = "all"  # `person_reason` has left those with a number and those who are wanted
    tracks = tuple(track for track in tracks if track.number not in others)
    sizes = {track.number: size_reason(_median_side(track), options) for track in tracks}
    reasons = {
        **select_tracks(tracks, analysis.size, selection, video.min_duration, rate, analysis.cuts, count, sizes),
        **others,
    }
    if options.max_faces is not None:
        _skip_smaller(analysis, reasons, options.max_faces)
    if options.strength == 0:
        reasons = {number: reason or ZERO_STRENGTH for number, reason in reasons.items()}
    return reasons


def _median_side(track: Track) -> float:
    return float(np.median((track.boxes[:, 2:] - track.boxes[:, :2]).min(axis=1)))


def _skip_smaller(analysis: VideoAnalysis, reasons: dict[int, str | None], max_faces: int) -> None:
    """Leave the `max_faces` largest people of each shot. A face that was hidden for a while has several tracks."""
    reason = "not the largest face" if max_faces == 1 else f"not among the {max_faces} largest faces"
    remaining = [track for track in analysis.tracks if reasons[track.number] is None]
    for people in people_by_shot(remaining, analysis.cuts):
        for group in sorted(people, key=total_area, reverse=True)[max_faces:]:
            reasons.update({track.number: reason for track in group})
