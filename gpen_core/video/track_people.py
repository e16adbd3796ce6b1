"""Which person each track of a video is, by the embeddings of its best frames."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..faces.identity import Embedding, PersonMatch, mean_embedding
from ..files.atomic_write import write_bytes
from ..pipeline.people import People
from .analysis import FrameLike
from .track import READ_ERRORS, Track

FRAMES_PER_TRACK = 5
MAX_GAP = 250  # frames that are decoded rather than skipped by a seek
FILE = "embeddings.npz"

Frames = Callable[[int], Iterable[FrameLike]]
"""Returns the frames of a video from a number on."""


def match_tracks(
    tracks: Sequence[Track], embeddings: Mapping[int, Sequence[Embedding]], people: People
) -> dict[int, PersonMatch | None]:
    """Return by number which person each track is. The tracks of one face count together. None: no frame was usable."""
    by_face: dict[int, list[Embedding]] = {}
    for track in tracks:
        by_face.setdefault(track.person, []).extend(embeddings.get(track.number, ()))
    matches = {person: people.match_embedding(mean_embedding(found) if found else None) for person, found in by_face.items()}
    return {track.number: matches[track.person] for track in tracks}


def embed_tracks(tracks: Sequence[Track], frames: Frames, people: People) -> dict[int, list[Embedding]]:
    """Return the embeddings of each track's best frames by its number. `frames` is called once per gap between them."""
    wanted: dict[int, list[Track]] = {}
    for track in tracks:
        for number in best_frames(track):
            wanted.setdefault(number, []).append(track)
    embeddings: dict[int, list[Embedding]] = {}
    for number, frame in _frames_at(sorted(wanted), frames):
        for track in wanted[number]:
            face = track.face_at(number)
            embedding = None if face is None else people.embed(frame.image, face)
            if embedding is not None:
                embeddings.setdefault(track.number, []).append(embedding)
    return embeddings


def best_frames(track: Track) -> list[int]:
    """Return the numbers of up to `FRAMES_PER_TRACK` frames: the best of each part of the track, by size and score."""
    detected = np.flatnonzero(~np.isnan(track.scores))
    quality = track.areas * np.nan_to_num(track.scores)
    parts = [part for part in np.array_split(detected, FRAMES_PER_TRACK) if len(part)]
    return [track.first + int(part[np.argmax(quality[part])]) for part in parts]


def _frames_at(numbers: Sequence[int], frames: Frames) -> Iterator[tuple[int, FrameLike]]:
    """Yield the frames with these ascending numbers."""
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


def save_embeddings(folder: Path, embeddings: Mapping[int, Sequence[Embedding]]) -> None:
    """Write the embeddings next to the result of the first pass. Raises `OutputError`."""
    file = io.BytesIO()
    arrays = {str(number): np.stack(found) for number, found in embeddings.items()}
    np.savez(file, **arrays)  # type: ignore[arg-type]
    write_bytes(folder / FILE, file.getvalue())


def load_embeddings(folder: Path) -> dict[int, list[Embedding]] | None:
    """Load the file of `save_embeddings`. None if it is missing or damaged."""
    try:
        with np.load(folder / FILE, allow_pickle=False) as arrays:
            return {int(number): list(arrays[number]) for number in arrays.files}
    except READ_ERRORS:
        return None
