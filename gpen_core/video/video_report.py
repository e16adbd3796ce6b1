"""What became of a film, as JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..options import RestoreOptions, VideoOptions
from ..pipeline.report import Engine, as_json, heading
from .restore_video import TrackOutcome, VideoResult
from .temporal_filter import Steadiness


def report(
    restorer: Engine | None,
    names: dict[str, Any],
    options: RestoreOptions,
    video: VideoOptions,
    result: VideoResult | None,
    error: str | None = None,
) -> str:
    """The run as JSON text. `error` is what ended it early, `result` is None then.

    `version`, model, detector, input and output as they were asked for, `size`, `device`, `dtype`, `options`, `video`,
    perhaps `error`, and of what was written: `width`, `height`, `frames_per_second`, `frame_count`, `cuts` (numbers of the
    frames that begin a shot), `tracks` (each face: `number`, `person` (the number of the first track of the same face),
    `first` and `last` frame, `from` and `to` in seconds, `filled` frames in which it was not detected, `restored` frames,
    perhaps `reason`, `network`, and `steadiness`), `frames` (each: `number`, `seconds`, `restored` tracks, `left` tracks),
    `segments`, `segments_found` (finished by an earlier run), `seconds` by stage and `notes`. `steadiness` is the root mean
    square difference of following frames of the restored face along what moves, of values in 0 to 255: `by_itself` as the
    network gave them, `written` as they were written; null where there was nothing to compare."""
    content = {**heading(restorer, names, options), "video": dict(vars(video))}
    if error is not None:
        content["error"] = error
    if result is not None:
        content.update(_outcome(result))
    return as_json(content, indent=1)


def _outcome(result: VideoResult) -> dict[str, Any]:
    film, survey = result.film, result.survey
    seconds = [round(film.seconds_at(int(pts)), 4) for pts in survey.pts]
    there: list[set[int]] = [set() for _ in range(survey.count)]
    for track in survey.tracks:
        for faces in there[track.first : track.last + 1]:
            faces.add(track.number)
    return {
        "width": survey.size[0],
        "height": survey.size[1],
        "frames_per_second": None if film.rate is None else round(float(film.rate), 4),
        "frame_count": survey.count,
        "cuts": list(survey.cuts),
        "tracks": [_track(one, seconds) for one in result.tracks],
        "frames": [
            {"number": n, "seconds": seconds[n], "restored": list(done), "left": sorted(there[n] - set(done))}
            for n, done in enumerate(result.restored)
        ],
        "segments": result.segments[0],
        "segments_found": result.segments[1],
        "seconds": {stage: round(value, 3) for stage, value in result.seconds.items()},
        "notes": list(result.notes),
    }


def _track(one: TrackOutcome, seconds: list[float]) -> dict[str, Any]:
    track = one.track
    return {
        "number": track.number,
        "person": track.person,
        "first": track.first,
        "last": track.last,
        "from": seconds[track.first],
        "to": seconds[track.last],
        "filled": int(np.isnan(track.scores).sum()),
        "restored": one.frames,
        "reason": one.reason,
        "network": one.network,
        "steadiness": {"by_itself": _levels(one.before), "written": _levels(one.after)},
    }


def _levels(steadiness: Steadiness) -> float | None:
    return None if math.isnan(steadiness.value) else round(255 * steadiness.value, 4)
