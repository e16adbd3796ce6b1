"""Joins the tracks of a video to people, also across cuts, by the embeddings of their faces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..faces.cluster import cluster_faces
from ..files.atomic_write import write_bytes
from ..options import AUTO, FACE_EMBEDDER, RestoreOptions, VideoOptions, required_weights
from ..pipeline.identity_models import IdentityModels
from ..pipeline.photo_people import not_joined_text
from ..progress import Progress, pluralize
from .analysis import VideoAnalysis
from .track import Track, tracks_by_person
from .track_people import EmbeddingSource, TrackEmbeddings

FILE = "people.json"


@dataclass(frozen=True)
class TrackPeople:
    """The person of each track, in their order."""

    people: tuple[int, ...]
    is_joined: bool
    """Whether faces were compared. Else only a face that is hidden for a moment keeps its person."""

    def apply(self, analysis: VideoAnalysis) -> VideoAnalysis:
        tracks = (replace(track, person=person) for track, person in zip(analysis.tracks, self.people))
        return replace(analysis, tracks=tuple(tracks))

    def save(self, folder: Path) -> None:
        """Write them next to the result of the first pass. Raises `OutputError`."""
        write_bytes(folder / FILE, json.dumps({"joined": self.is_joined, "people": self.people}).encode())

    @classmethod
    def load(cls, folder: Path, count: int) -> TrackPeople | None:
        """Load the people of `count` tracks. None if the file is missing or damaged."""
        try:
            saved = json.loads((folder / FILE).read_bytes())
            people, is_joined = tuple(int(person) for person in saved["people"]), bool(saved["joined"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return cls(people, is_joined) if len(people) == count else None


def join_tracks(tracks: Sequence[Track], embeddings: Mapping[int, TrackEmbeddings], threshold: float) -> tuple[int, ...]:
    """Return the person of each track: the number of the first track that shows the same person.

    Tracks of one `Track.person` stay together. Others are joined by `cluster_faces` if their faces are at least as similar
    as `threshold`. Two tracks that share a frame are two people. `embeddings` are those of `embed_tracks`; a track without
    a trusted one stays alone."""
    groups = tracks_by_person(tracks)
    found = [TrackEmbeddings.of_tracks(group, embeddings) for group in groups.values()]
    weights = [0.0 if one is None else float(one.weights.sum()) for one in found]
    means = [np.zeros(1, np.float32) if one is None or not weight else one.mean for one, weight in zip(found, weights)]
    labels = cluster_faces(means, weights, _share_frames(list(groups.values())), threshold)
    numbers = list(groups)
    person = {number: numbers[label] for number, label in zip(numbers, labels)}
    return tuple(person[track.person] for track in tracks)


def _share_frames(groups: Sequence[Sequence[Track]]) -> NDArray[np.bool_]:
    """Return [n, n]: whether two groups have a frame in common."""
    shared = np.zeros((len(groups), len(groups)), bool)
    tracks = sorted(((track, n) for n, group in enumerate(groups) for track in group), key=lambda one: one[0].first)
    running: list[tuple[Track, int]] = []
    for track, n in tracks:
        running = [one for one in running if one[0].last >= track.first]
        for _, other in running:
            shared[n, other] = shared[other, n] = True
        running.append((track, n))
    return shared


def load_embedder(identity: IdentityModels, progress: Progress, *options: RestoreOptions | VideoOptions) -> None:
    """Load the embedder now, and not after the first pass, if one of the options needs it.

    Raises `MissingWeights` and `WeightsError`."""
    if any(FACE_EMBEDDER in required_weights(one) for one in options):
        identity.embedder(progress)


def join_people(
    analysis: VideoAnalysis,
    identity: IdentityModels,
    video: VideoOptions,
    source: EmbeddingSource,
) -> tuple[VideoAnalysis, list[str]]:
    """Return the analysis with tracks that go by people, and notes about it.

    `VideoOptions.join_people` decides: `auto` joins if the embedder is downloaded. People are kept in the folder of
    `source`. If it has some already, `auto` takes them. Raises `MissingWeights` and `WeightsError` for the embedder."""
    tracks, wanted, folder = analysis.tracks, video.join_people, source.folder
    before = tracks_by_person(tracks)
    if _share_frames(list(before.values())).sum() == len(before) * (len(before) - 1):
        return analysis, []  # there is nothing to join
    people = None if folder is None else TrackPeople.load(folder, len(tracks))
    if people is None or (wanted != AUTO and people.is_joined != (wanted == "on")):
        people = TrackPeople(tuple(track.person for track in tracks), is_joined=False)
        if identity.joins_people(wanted):
            embedder = identity.embedder(source.progress)
            joined = join_tracks(tracks, source.embed(tracks, embedder), embedder.join_threshold)
            people = TrackPeople(joined, is_joined=True)
        if folder is not None:
            people.save(folder)
    count = len(set(people.people))
    if count < len(before):
        notes = [f"{pluralize(len(before), 'face')} were joined to {pluralize(count, 'person', 'people')} by SFace"]
    else:
        notes = [not_joined_text("shot")] if wanted == AUTO and not people.is_joined else []
    return people.apply(analysis), notes
