"""The option `min_identity` in a video: at which strength a person stays the same person.

It is decided once for each person in each shot, before the second pass. If each frame decided, the face would flicker."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import astuple, replace
from itertools import chain
from pathlib import Path

import numpy as np

from ..errors import summarize_problems
from ..faces.identity import FaceEmbedder, StrengthTrial, face_identities, identity_skip_reason, select_strength
from ..files.atomic_write import write_bytes
from ..pipeline.identity_models import IdentityModels
from ..progress import ProgressEvent, ReplayableProgress, StageTimer
from .analysis import VideoAnalysis
from .frame_restorer import FrameRestorer
from .threaded_pipeline import ThreadedPipeline
from .track import Track, people_by_shot
from .track_people import EmbeddingSource, best_frames, frames_at
from .track_plan import TrackPlan

FILE = "min_identity.json"

Trials = Mapping[int, StrengthTrial | None]
"""By track. None: no frame was usable."""


def keep_identity(
    frame_restorer: FrameRestorer,
    analysis: VideoAnalysis,
    identity: IdentityModels,
    source: EmbeddingSource,
    key: str | None = None,
) -> list[str]:
    """Set the strengths of `frame_restorer` for the option `min_identity`, and skip tracks without one. Return notes.

    The result is kept in the folder of `source`. It is used again if it was made with the same `key`, which stands for
    networks and options, or with any if `key` is None. Raises `MissingWeights` and `WeightsError` for the embedder, and the
    errors of `FrameRestorer.run`."""
    options = frame_restorer.options
    if options.min_identity == 0 or not frame_restorer.plans:
        return []
    trials = None if source.folder is None else _load(source.folder, key)
    if trials is None:
        with source.timer.stage("identity"):
            embedder = identity.embedder(source.progress)
            trials = try_strengths(frame_restorer, analysis, source, embedder)
        if source.folder is not None:
            _save(source.folder, key or "", trials)
    skipped = {
        number: identity_skip_reason(trial, options.min_identity)
        for number, trial in trials.items()
        if trial is None or trial.strength is None
    }
    frame_restorer.reasons = {**frame_restorer.reasons, **skipped}
    frame_restorer.plans = [plan for plan in frame_restorer.plans if plan.track.number not in skipped]
    frame_restorer.trials = {number: trial for number, trial in trials.items() if trial is not None}
    return list(_notes(frame_restorer, analysis))


def try_strengths(
    frame_restorer: FrameRestorer, analysis: VideoAnalysis, source: EmbeddingSource, embedder: FaceEmbedder
) -> Trials:
    """Return the highest of four strengths at which each selected track is as similar to the input as `min_identity`.

    The best frames of each track (see `best_frames`) are restored one by one. The tracks of a person in one shot share the
    median of their similarities."""
    options, samples = frame_restorer.options, _restored_samples(frame_restorer, analysis, source, embedder)
    trials: dict[int, StrengthTrial | None] = {}
    for group in _people(frame_restorer, analysis):
        rows = [row for track in group for row in samples.get(track.number, ())]
        medians = np.median(rows, axis=0).tolist() if rows else []
        trial = select_strength(medians, options.strength, options.min_identity) if rows else None
        trials.update({track.number: trial for track in group})
    return trials


def _people(frame_restorer: FrameRestorer, analysis: VideoAnalysis) -> Iterator[list[Track]]:
    """Return the selected tracks of each person in each shot."""
    return chain.from_iterable(people_by_shot([plan.track for plan in frame_restorer.plans], analysis.cuts))


def _restored_samples(
    frame_restorer: FrameRestorer, analysis: VideoAnalysis, source: EmbeddingSource, embedder: FaceEmbedder
) -> dict[int, list[tuple[float, ...]]]:
    """Return the `trial_identities` of the best frames of each track. Frames without a restored face are left out."""
    wanted: dict[int, list[TrackPlan]] = {}
    for plan in frame_restorer.plans:
        for number in best_frames(plan.track):
            wanted.setdefault(number, []).append(replace(plan, track=plan.track.at(number)))
    sampler = replace(
        frame_restorer,
        plans=[plan for plans in wanted.values() for plan in plans],
        temporal_smoothing=0.0,
        region_mask=None,
        ranges=None,
        filters={},
        prefers_planes=False,
        timer=StageTimer({}),
    )
    progress = ReplayableProgress(source.progress)
    frames = (frame for _, frame in frames_at(sorted(wanted), source.frames))
    samples: dict[int, list[tuple[float, ...]]] = {}
    with ThreadedPipeline(progress.replay) as pipeline:
        for done, one in enumerate(sampler.run(frames, range(analysis.frame_count), pipeline)):
            progress(ProgressEvent("identify", done, len(wanted), "frame", "Checking identities"))
            for plan in wanted[one.frame.number]:
                found = face_identities(embedder, one.frame.image, one.image, plan.track.landmarks[0])
                if plan.track.number in one.tracks and found is not None:
                    samples.setdefault(plan.track.number, []).append(found)
    return samples


def _notes(frame_restorer: FrameRestorer, analysis: VideoAnalysis) -> Iterator[str]:
    lowered = []
    for track, *_ in _people(frame_restorer, analysis):
        trial = frame_restorer.trials[track.number]
        if trial.strength is not None and trial.strength < frame_restorer.options.strength:
            lowered.append(f"face {track.number} to {trial.lowered_text}")
    if lowered:
        yield f"strength lowered: {summarize_problems(lowered)}"


def _save(folder: Path, key: str, trials: Trials) -> None:
    """Write the trials next to the result of the first pass. Raises `OutputError`."""
    rows = {number: None if trial is None else astuple(trial) for number, trial in trials.items()}
    write_bytes(folder / FILE, json.dumps({"key": key, "trials": rows}).encode())


def _load(folder: Path, key: str | None) -> Trials | None:
    """Load the file of `_save`. None if it is missing, damaged, or was made with another key."""
    try:
        saved = json.loads((folder / FILE).read_bytes())
        trials = {int(number): None if row is None else StrengthTrial(*row) for number, row in saved["trials"].items()}
        return trials if key in (None, saved["key"]) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
