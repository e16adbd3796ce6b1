"""Selects the faces of a video that are restored."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from ..faces.identity import PersonMatch
from ..faces.select import ZERO_STRENGTH, person_reason, size_reason
from ..options import DEFAULT_MIN_DURATION, RestoreOptions, VideoOptions, base_selection, has_wanted_person
from .analysis import VideoAnalysis
from .frame_ranges import FrameRanges
from .track import Track, people_by_shot, tracks_by_person


def skip_reasons(
    analysis: VideoAnalysis,
    options: RestoreOptions,
    video: VideoOptions,
    rate: float,
    matches: Mapping[int, PersonMatch | None] | None = None,
    ranges: FrameRanges | None = None,
) -> dict[int, str | None]:
    """Return the reason to skip each track by its number, or None for selected tracks. `rate`: frames per second.

    A number in `options.faces` selects all tracks of the same person. `largest` is the person of each shot with the largest
    area, summed over frames. `center` is the person with the smallest mean distance from the center; a frame without the
    face counts as the corner. The size limits apply to the median size of a track, and `max_faces` to the people of each
    shot. People visible for less than `min_duration` in total are skipped. Up to `DEFAULT_MIN_DURATION`, a face that is
    visible in its whole shot is kept. `matches` say which person each track is, if the options have references (see
    `track_people`). With `ranges`, only tracks in them compete."""
    tracks, selection = analysis.tracks, base_selection(options.faces)
    numbers = None if isinstance(selection, str) else _with_persons(tracks, selection)
    reasons: dict[int, str | None] = {track.number: None for track in tracks}
    if matches is not None:
        reasons = {
            t.number: person_reason(matches[t.number], bool({t.number, t.person} & (numbers or set()))) for t in tracks
        }
    if ranges is not None:
        reasons.update({track.number: "outside of the ranges" for track in tracks if not ranges.contains(track)})
    competing = [track for track in tracks if reasons[track.number] is None]
    reasons.update({track.number: size_reason(_median_side(track), options) for track in competing})
    reasons.update(_short_reasons(competing, analysis, video.min_duration, rate))
    remaining = [track for track in competing if reasons[track.number] is None]
    if numbers is not None:
        if matches is None or not has_wanted_person(options.faces):  # else `person_reason` has decided
            reasons.update({t.number: "not asked for" for t in remaining if not {t.number, t.person} & numbers})
    elif selection != "all":
        word = "most central" if selection == "center" else selection
        kept = _select_per_shot(remaining, analysis, is_largest=selection == "largest")
        reasons.update({track.number: f"not the {word} face" for track in remaining if track.number not in kept})
    if options.max_faces is not None:
        _skip_smaller(analysis, reasons, options.max_faces)
    if options.strength == 0:
        reasons = {number: reason or ZERO_STRENGTH for number, reason in reasons.items()}
    return reasons


def _with_persons(tracks: Sequence[Track], numbers: tuple[int, ...]) -> set[int]:
    """Return the track numbers and the numbers of their persons."""
    return {*numbers, *(track.person for track in tracks if track.number in numbers)}


def _median_side(track: Track) -> float:
    return float(np.median((track.boxes[:, 2:] - track.boxes[:, :2]).min(axis=1)))


def _short_reasons(
    tracks: Sequence[Track], analysis: VideoAnalysis, min_seconds: float, rate: float
) -> Iterator[tuple[int, str]]:
    for group in tracks_by_person(tracks).values():
        seconds = sum(map(len, group)) / rate
        reason = f"visible for less than the minimum: {seconds:.2g} s of {min_seconds:g} s"
        for track in group if seconds < min_seconds else ():
            if min_seconds > DEFAULT_MIN_DURATION or not _fills_shot(track, analysis):
                yield track.number, reason


def _fills_shot(track: Track, analysis: VideoAnalysis) -> bool:
    """Whether the track is there from the first frame of its shot to the last."""
    edges = (0, *analysis.cuts, analysis.frame_count)
    shot = bisect_right(edges, track.first)
    return track.first == edges[shot - 1] and track.last == edges[shot] - 1


def _select_per_shot(tracks: Sequence[Track], analysis: VideoAnalysis, is_largest: bool) -> set[int]:
    """Return the numbers of the tracks of the largest or the most central person of each shot."""
    kept: set[int] = set()
    for people in people_by_shot(tracks, analysis.cuts):
        if is_largest:
            chosen = max(people, key=_total_area)
        else:
            in_shot = [track for group in people for track in group]
            frames = 1 + max(track.last for track in in_shot) - min(track.first for track in in_shot)
            chosen = min(people, key=partial(_distance_from_center, size=analysis.size, frames=frames))
        kept |= {track.number for track in chosen}
    return kept


def _total_area(group: Sequence[Track]) -> float:
    """Return the area of a person's boxes, summed over frames."""
    return float(sum(track.areas.sum() for track in group))


def _distance_from_center(group: Sequence[Track], size: tuple[int, int], frames: int) -> float:
    """Return the mean distance from the center in a shot with `frames` frames."""
    middle = np.array(size) / 2
    centers = np.concatenate([(track.boxes[:, :2] + track.boxes[:, 2:]) / 2 for track in group])
    total = float(np.hypot(*(centers - middle).T).sum())
    return (total + max(0, frames - len(centers)) * float(np.hypot(*middle))) / frames


def _skip_smaller(analysis: VideoAnalysis, reasons: dict[int, str | None], max_faces: int) -> None:
    """Leave the `max_faces` largest people of each shot. A face that was hidden for a while has several tracks."""
    reason = "not the largest face" if max_faces == 1 else f"not among the {max_faces} largest faces"
    remaining = [track for track in analysis.tracks if reasons[track.number] is None]
    for people in people_by_shot(remaining, analysis.cuts):
        for group in sorted(people, key=_total_area, reverse=True)[max_faces:]:
            reasons.update({track.number: reason for track in group})
