"""Tracks of faces through a video."""

from __future__ import annotations

import io
import zipfile
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..faces.face import Face, Landmarks
from ..files.atomic_write import write_bytes

FloatArray = NDArray[np.float64]

FADE_SECONDS = 0.2  # duration of the fade when a face appears or disappears
ARRAY_NAMES = ("landmarks", "boxes", "scores", "raw")
READ_ERRORS = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
FILLED_NOTE = "not detected in this frame, but placed by the frames around it"


@dataclass(frozen=True, eq=False)
class Track:
    """A face in n consecutive frames, in pixels of the frames."""

    number: int
    """Counted from 0 by first appearance, then in reading order."""
    first: int
    """The number of its first frame."""
    landmarks: FloatArray
    """[n, 5, 2], smoothed over time."""
    boxes: FloatArray
    """[n, 4]: x0, y0, x1, y1, smoothed over time."""
    scores: FloatArray
    """[n]: detection scores; nan in frames where the face was not detected and its place is filled in."""
    raw: FloatArray
    """[n, 5, 2]: the detected landmarks; nan in frames without a detection."""
    fade_in: bool
    """Whether its strength grows at its beginning. False if it begins with the video or at a cut."""
    fade_out: bool
    """The same at its end."""
    person: int
    """The number of the first track that shows the same person. A face that is hidden for a while gets a new track, and so
    does each shot; `join_people` finds those that are the same."""

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def last(self) -> int:
        """The number of its last frame."""
        return self.first + len(self) - 1

    def face_at(self, number: int) -> Face | None:
        """Return the face in frame `number`, or None if the track is not in it.

        A filled-in face has a note, and the score of the previous detection."""
        landmarks = self.landmarks_at(number)
        if landmarks is None:
            return None
        n = last_seen = number - self.first
        while np.isnan(self.scores[last_seen]):  # at most the length of a gap; the first frame has a detection
            last_seen -= 1
        x0, y0, x1, y1 = (float(v) for v in self.boxes[n])
        note = None if last_seen == n else FILLED_NOTE
        return Face((x0, y0, x1, y1), float(self.scores[last_seen]), landmarks.copy(), note=note)

    def landmarks_at(self, number: int) -> Landmarks | None:
        """Return the landmarks [5, 2] in frame `number`, or None if the track is not in it."""
        return self.landmarks[number - self.first] if self.first <= number <= self.last else None

    def at(self, number: int) -> Track:
        """Return the track in one of its frames only, without fades."""
        part = slice(number - self.first, number - self.first + 1)
        arrays = {name: getattr(self, name)[part] for name in ARRAY_NAMES}
        return replace(self, first=number, fade_in=False, fade_out=False, **arrays)

    def fade_weight(self, number: int, rate: float) -> float:
        """Return the weight of the restored face in frame `number`, from 0 to 1, so that it fades in and out.

        `rate`: frames per second. 0 if the track is not in the frame."""
        return fade_weight(number, range(self.first, self.last + 1), rate, self.fade_in, self.fade_out)

    @property
    def areas(self) -> FloatArray:
        """[n]: areas of its boxes in square pixels."""
        return np.asarray(np.maximum(self.boxes[:, 2:] - self.boxes[:, :2], 0).prod(1))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the track as arrays by name."""
        about = [self.number, self.first, self.fade_in, self.fade_out, self.person]
        return {"about": np.array(about, np.int64), **{name: getattr(self, name) for name in ARRAY_NAMES}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Track:
        """Create a track from the result of `arrays`. Raises `KeyError` or `ValueError` for invalid arrays."""
        number, first, begins, ends, person = (int(v) for v in arrays["about"])
        landmarks, boxes, scores, raw = (arrays[name].astype(float) for name in ARRAY_NAMES)
        n = len(scores)
        if (landmarks.shape, boxes.shape, scores.shape, raw.shape) != ((n, 5, 2), (n, 4), (n,), (n, 5, 2)):
            raise ValueError(f"a track of {n} frames with arrays of other lengths")
        return cls(number, first, landmarks, boxes, scores, raw, bool(begins), bool(ends), person)


def fade_weight(number: int, frames: range, rate: float, fade_in: bool, fade_out: bool) -> float:
    """Return the weight of frame `number`, from 0 to 1, that rises at the beginning of `frames` and falls at their end.

    `rate`: frames per second. 0 outside of `frames`."""
    if number not in frames:
        return 0.0
    steps = max(1.0, FADE_SECONDS * rate)
    fade_in_part = (number - frames.start + 1) / (steps + 1) if fade_in else 1.0
    fade_out_part = (frames.stop - number) / (steps + 1) if fade_out else 1.0
    progress = min(fade_in_part, fade_out_part, 1.0)
    return progress * progress * (3 - 2 * progress)


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays into one .npz file atomically. Raises `OutputError`."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    write_bytes(path, file.getvalue())


def save_tracks(path: Path, tracks: Sequence[Track]) -> None:
    """Write all tracks into one .npz file atomically. Raises `OutputError`."""
    save_arrays(path, {f"{n}.{name}": a for n, track in enumerate(tracks) for name, a in track.arrays().items()})


def load_tracks(path: Path) -> tuple[Track, ...]:
    """Load a file of `save_tracks`. Raises `InputError` if it is invalid or truncated."""
    by_track: dict[int, dict[str, NDArray[Any]]] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                n, _, name = key.partition(".")
                by_track.setdefault(int(n), {})[name] = arrays[key]
        return tuple(Track.from_arrays(by_track[n]) for n in sorted(by_track))
    except READ_ERRORS as error:
        raise InputError(f"{path} is damaged: {error}. Delete it and run again.") from error


def tracks_by_person(tracks: Iterable[Track]) -> dict[int, list[Track]]:
    """Return the tracks of each person, by `Track.person`."""
    people: dict[int, list[Track]] = {}
    for track in tracks:
        people.setdefault(track.person, []).append(track)
    return people


def people_by_shot(tracks: Iterable[Track], cuts: Sequence[int]) -> list[list[list[Track]]]:
    """Return the tracks of each person of each shot. `cuts`: sorted numbers of the frames that begin a shot."""
    shots: dict[int, list[Track]] = {}
    for track in tracks:
        shots.setdefault(bisect_right(cuts, track.first), []).append(track)
    return [list(tracks_by_person(shot).values()) for shot in shots.values()]
