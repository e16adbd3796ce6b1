"""Writes the result of a video as JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GpenError
from ..options import RestoreOptions, VideoOptions
from ..pipeline.report import ModelInfo, report_header, to_json
from .temporal_filter import FlickerMetric
from .video_result import TrackOutcome, VideoResult


@dataclass
class VideoOutcome:
    """The outcome of one video of a run of several. It is an `Outcome`."""

    source: Path
    target: Path
    status: str = "failed"
    """`restored`, `unchanged` (no face was restored), `skipped` (the output exists), or `failed`."""
    error: GpenError | None = None
    result: VideoResult | None = None

    def to_json(self) -> dict[str, Any]:
        """Return `input`, `output` (None if it failed), `status`, `error` if it failed, and the fields of the result, see
        `report`."""
        target = None if self.status == "failed" else str(self.target)
        content: dict[str, Any] = {"input": str(self.source), "output": target, "status": self.status}
        if self.error is not None:
            content["error"] = str(self.error)
        return content if self.result is None else {**content, **_result_fields(self.result)}


def report(
    restorer: ModelInfo | None,
    names: dict[str, Any],
    options: RestoreOptions,
    video: VideoOptions,
    result: VideoResult | None,
    error: str | None = None,
    indent: int | None = 1,
) -> str:
    """Return the run as JSON text, on one line if `indent` is None. If the run failed, `error` is its message and `result`
    is None.

    The fields of the run: `version`, the names in `names`, `size`, `device`, `dtype`, `options`, `video`, and `error` if it
    failed. The fields of the result:

    - `width`, `height`, `frames_per_second`, `frame_count`, `cuts` (numbers of the frames that begin a shot);
    - `tracks`: for each face its `number`, `person` (the number of the first track of the same face), `first` and `last`
      frame, `from` and `to` in seconds, `filled` (number of frames without a detection), `restored` (number of frames),
      `reason` (why it was skipped), `network`, `flicker`, and with `min_identity` also `strength` (null if it was skipped)
      and `identity` (median similarity to the input at that strength, or at the lowest that was tried);
    - `frames`: for each its `number`, `seconds`, `restored` tracks and `skipped` tracks;
    - `segments`, `segments_found` (finished by an earlier run), `seconds` by stage, and `notes`.

    `flicker` is the root mean square difference of consecutive frames of the restored face along the flow, in levels of
    255: `before` and `after` the temporal filter. It is null if nothing was compared."""
    content = {**report_header(restorer, names, options), "video": dict(vars(video))}
    if error is not None:
        content["error"] = error
    if result is not None:
        content.update(_result_fields(result))
    return to_json(content, indent)


def _result_fields(result: VideoResult) -> dict[str, Any]:
    info, analysis = result.info, result.analysis
    seconds = [round(info.seconds_at(int(pts)), 4) for pts in analysis.pts]
    visible: list[set[int]] = [set() for _ in range(analysis.frame_count)]
    for track in analysis.tracks:
        for faces in visible[track.first : track.last + 1]:
            faces.add(track.number)
    return {
        "width": analysis.size[0],
        "height": analysis.size[1],
        "frames_per_second": None if info.frame_rate is None else round(float(info.frame_rate), 4),
        "frame_count": analysis.frame_count,
        "cuts": list(analysis.cuts),
        "tracks": [_track_fields(one, seconds) for one in result.tracks],
        "frames": [
            {"number": n, "seconds": seconds[n], "restored": list(done), "skipped": sorted(visible[n] - set(done))}
            for n, done in enumerate(result.restored)
        ],
        "segments": result.segments[0],
        "segments_found": result.segments[1],
        "seconds": {stage: round(value, 3) for stage, value in result.seconds.items()},
        "notes": list(result.notes),
    }


def _track_fields(outcome: TrackOutcome, seconds: list[float]) -> dict[str, Any]:
    track, trial = outcome.track, outcome.trial
    return {
        "number": track.number,
        "person": track.person,
        "first": track.first,
        "last": track.last,
        "from": seconds[track.first],
        "to": seconds[track.last],
        "filled": int(np.isnan(track.scores).sum()),
        "restored": outcome.frames,
        "reason": outcome.reason,
        "network": outcome.network,
        "flicker": {"before": _levels(outcome.flicker_before), "after": _levels(outcome.flicker_after)},
        **({} if trial is None else {"strength": trial.strength, "identity": round(trial.identity, 4)}),
    }


def _levels(flicker: FlickerMetric) -> float | None:
    return None if math.isnan(flicker.rms) else round(255 * flicker.rms, 4)
