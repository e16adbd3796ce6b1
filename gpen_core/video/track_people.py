"""Which person each track of a video is, by the embeddings of its best frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..faces.identity import Embedding, FaceEmbedder, PersonMatch, embed_with_weight, mean_embedding
from ..faces.select import person_notes
from ..options import RestoreOptions
from ..pipeline.identity_models import IdentityModels
from ..pipeline.people import People
from ..progress import Progress, ProgressEvent, StageTimer, no_progress
from .analysis import FrameLike
from .track import READ_ERRORS, Track, save_arrays, tracks_by_person

FRAMES_PER_TRACK = 5
MAX_GAP = 250  # frames that are decoded rather than skipped by a seek
FILE = "embeddings.npz"

Frames = Callable[[int], Iterable[FrameLike]]
"""Returns the frames of a video from a number on."""


@dataclass(frozen=True, eq=False)
class TrackEmbeddings:
    """The embeddings of a track's best frames."""

    vectors: NDArray[np.float32]
    """[n, D], each of length 1."""
    weights: NDArray[np.float64]
    """[n]: how much each counts; 0 if the face is too small or too blurry there. See `embed_with_weight`."""

    @property
    def mean(self) -> Embedding:
        """The weighted mean, of length 1. If all weights are 0, all count the same."""
        return mean_embedding(list(self.vectors), list(self.weights) if self.weights.any() else None)

    @classmethod
    def of_tracks(cls, tracks: Iterable[Track], embeddings: Mapping[int, TrackEmbeddings]) -> TrackEmbeddings | None:
        """Return those of several tracks together, or None if there are none. `embeddings` as from `embed_tracks`."""
        parts = [embeddings[track.number] for track in tracks if track.number in embeddings]
        if not parts:
            return None
        return cls(np.concatenate([one.vectors for one in parts]), np.concatenate([one.weights for one in parts]))


def match_tracks(
    tracks: Sequence[Track], embeddings: Mapping[int, TrackEmbeddings], people: People
) -> dict[int, PersonMatch | None]:
    """Return by number which person each track is. The tracks of one face count together. None: no frame was usable."""
    matches = {}
    for person, group in tracks_by_person(tracks).items():
        found = TrackEmbeddings.of_tracks(group, embeddings)
        matches[person] = people.match_embedding(None if found is None else found.mean)
    return {track.number: matches[track.person] for track in tracks}


def match_people(
    tracks: Sequence[Track],
    identity: IdentityModels,
    options: RestoreOptions,
    source: EmbeddingSource,
) -> tuple[dict[int, PersonMatch | None] | None, list[str]]:
    """Return which person of the options each track is, see `match_tracks`, and notes; None if there are no references.

    Raises the errors of `IdentityModels.people`."""
    people = identity.people(options, source.progress)
    if people is None:
        return None, []
    matches = match_tracks(tracks, source.embed(tracks, people.embedder), people)
    return matches, person_notes(list(matches.values()), is_image=False)


@dataclass(eq=False)
class EmbeddingSource:
    """Gives the embeddings of the tracks of one video, which are made once."""

    frames: Frames
    progress: Progress = no_progress
    folder: Path | None = None
    """Where they are kept for the next run."""
    timer: StageTimer = field(default_factory=StageTimer)
    _made: dict[int, TrackEmbeddings] | None = None

    def embed(self, tracks: Sequence[Track], embedder: FaceEmbedder) -> Mapping[int, TrackEmbeddings]:
        """Return the result of `embed_tracks`. Raises `OutputError`."""
        if self._made is None and self.folder is not None:
            self._made = load_embeddings(self.folder)
        if self._made is None:
            with self.timer.stage("identity"):
                self._made = embed_tracks(tracks, self.frames, embedder, self.progress)
            if self.folder is not None:
                save_embeddings(self.folder, self._made)
        return self._made


def embed_tracks(
    tracks: Sequence[Track], frames: Frames, embedder: FaceEmbedder, progress: Progress = no_progress
) -> dict[int, TrackEmbeddings]:
    """Return the embeddings of each track's best frames by its number. `frames` is called once per gap between them."""
    wanted: dict[int, list[Track]] = {}
    for track in tracks:
        for number in best_frames(track):
            wanted.setdefault(number, []).append(track)
    found: dict[int, list[tuple[Embedding, float]]] = {}
    for done, (number, frame) in enumerate(frames_at(sorted(wanted), frames)):
        progress(ProgressEvent("identify", done, len(wanted), "frame", "Comparing faces"))
        for track in wanted[number]:
            face = track.face_at(number)
            embedded = None if face is None else embed_with_weight(embedder, frame.image, face)
            if embedded is not None:
                found.setdefault(track.number, []).append(embedded)
    return {
        number: TrackEmbeddings(np.stack([one for one, _ in pairs]), np.array([weight for _, weight in pairs], np.float64))
        for number, pairs in found.items()
    }


def best_frames(track: Track) -> list[int]:
    """Return the numbers of up to `FRAMES_PER_TRACK` frames: the best of each part of the track, by size and score."""
    detected = np.flatnonzero(~np.isnan(track.scores))
    quality = track.areas * np.nan_to_num(track.scores)
    parts = [part for part in np.array_split(detected, FRAMES_PER_TRACK) if len(part)]
    return [track.first + int(part[np.argmax(quality[part])]) for part in parts]


def frames_at(numbers: Sequence[int], frames: Frames) -> Iterator[tuple[int, FrameLike]]:
    """Yield the frames with these ascending numbers. `frames` is called once per gap between them."""
    decoded: Iterator[FrameLike] | None = None
    following = 0  # the number of the next frame of `decoded`
    for number in numbers:
        if decoded is None or number > following + MAX_GAP:
            decoded, following = iter(frames(number)), number
        for frame in decoded:
            following += 1
            if following > number:
                yield number, frame
                break


def save_embeddings(folder: Path, embeddings: Mapping[int, TrackEmbeddings]) -> None:
    """Write the embeddings next to the result of the first pass. Raises `OutputError`."""
    arrays = {f"{number}.{name}": array for number, one in embeddings.items() for name, array in vars(one).items()}
    save_arrays(folder / FILE, arrays)


def load_embeddings(folder: Path) -> dict[int, TrackEmbeddings] | None:
    """Load the file of `save_embeddings`. None if it is missing or damaged."""
    try:
        with np.load(folder / FILE, allow_pickle=False) as arrays:
            numbers = dict.fromkeys(name.partition(".")[0] for name in arrays.files)
            return {int(n): TrackEmbeddings(arrays[f"{n}.vectors"], arrays[f"{n}.weights"]) for n in numbers}
    except READ_ERRORS:
        return None
