"""The first pass over a film: which faces are where in it, and where it is cut."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..faces.align import align, extract
from ..faces.color import nearest_tone
from ..faces.face import Face
from ..files.atomic_write import write_bytes
from ..images.image import Picture
from ..options import RestoreOptions
from ..pipeline.restorer import FaceRestorer
from ..progress import StageTimer
from .shots import CutFinder
from .track import BROKEN, Track, load_tracks, save_tracks
from .tracker import Tracker

FAINT = 0.5  # confidence: of faces that are taken where the same one is surer in another frame
TONES = 0.25  # seconds: how often a face is asked whether it is of one tone
TONE_SIZE = 128  # px


class Frame(Protocol):
    """One frame of a film, from a file or not."""

    @property
    def number(self) -> int:
        """From 0."""

    @property
    def pts(self) -> int:
        """When it is shown, in the film's time base."""

    @property
    def picture(self) -> Picture: ...


OneFrame = TypeVar("OneFrame", bound=Frame)


@dataclass(frozen=True, eq=False)
class Survey:
    """What is known of a film after the first pass."""

    size: tuple[int, int]
    """Width and height in pixels."""
    pts: NDArray[np.int64]
    """[N]: of each frame, in the film's time base."""
    cuts: tuple[int, ...]
    """Numbers of the frames that begin a shot; not the first."""
    tracks: tuple[Track, ...]
    of_one_tone: frozenset[int]
    """Numbers of the tracks that are grey or sepia throughout."""
    notes: tuple[str, ...] = ()
    """What was wrong with the film."""

    @property
    def count(self) -> int:
        return len(self.pts)

    def save(self, folder: Path) -> None:
        """Writes it into the folder, each file whole or not at all. Raises `OutputError`."""
        save_tracks(folder / "tracks.npz", self.tracks)
        file = io.BytesIO()
        cuts, tones = (np.array(numbers, np.int64) for numbers in (self.cuts, sorted(self.of_one_tone)))
        notes = np.array(self.notes, np.str_)
        np.savez(file, size=np.array(self.size), pts=self.pts, cuts=cuts, tones=tones, notes=notes)
        write_bytes(folder / "survey.npz", file.getvalue())

    @classmethod
    def load(cls, folder: Path) -> Survey | None:
        """What `save` wrote; None where it has not been written. Raises `InputError` for what is damaged."""
        path = folder / "survey.npz"
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as kept:
                width, height = (int(v) for v in kept["size"])
                cuts, tones = (tuple(int(v) for v in kept[name]) for name in ("cuts", "tones"))
                pts = kept["pts"].astype(np.int64)
                notes = tuple(str(note) for note in kept["notes"])
        except BROKEN as error:
            raise InputError(f"{path} is damaged: {error}. Delete it, or restart.") from error
        return cls((width, height), pts, cuts, load_tracks(folder / "tracks.npz"), frozenset(tones), notes)


def searching(options: RestoreOptions) -> RestoreOptions:
    """With which options faces are looked for in a film: also those that are less sure, since whether a face is one is told
    by all of its frames."""
    return replace(options, confidence=min(options.confidence, FAINT))


def looked_at(
    frames: Iterable[OneFrame],
    restorer: FaceRestorer,
    options: RestoreOptions,
    check: Callable[[], None],
    watch: StageTimer,
) -> Iterator[tuple[OneFrame, list[Face]]]:
    """Each frame with its heads, as many frames at once as the detector takes. `check` may end it before each time."""
    wanted = searching(options)
    group: list[OneFrame] = []

    def found() -> Iterator[tuple[OneFrame, list[Face]]]:
        check()
        with watch.stage("detect"):
            all_faces = restorer.detect([frame.picture for frame in group], wanted)
        for frame, faces in zip(group, all_faces):
            yield frame, [face for face in faces if face.reason is None]

    for frame in frames:
        group.append(frame)
        if len(group) == restorer.detector.at_once:
            yield from found()
            group = []
    yield from found()


def survey(
    found: Iterable[tuple[Frame, Sequence[Face]]],
    rate: float,
    options: RestoreOptions,
    tell: Callable[[int], None] = lambda done: None,
) -> Survey:
    """Follows the faces `found` in each frame, in order, as `searching` finds them. `rate`: frames a second; `tell` is
    called with the number of frames that are done. Raises `InputError` where there is no frame, and for one of another size
    than the first."""
    tracker, finder, tones = Tracker(rate, options.confidence), CutFinder(), _Tones(rate, options.template)
    size: tuple[int, int] | None = None
    pts: list[int] = []
    cuts: list[int] = []
    for frame, faces in found:
        size = size or frame.picture.size
        if frame.picture.size != size:
            was = f"{frame.picture.width}x{frame.picture.height}"
            raise InputError(f"Frame {frame.number} is {was}, those before it {size[0]}x{size[1]}: one size is expected.")
        is_cut = finder.is_cut(frame.picture)
        if is_cut:
            cuts.append(frame.number)
        tracker.add(frame.number, frame.picture, faces, is_cut)
        tones.add(frame, faces, is_cut)
        pts.append(frame.pts)
        tell(len(pts))
    if size is None:
        raise InputError("The film has no frames: nothing was decoded.")
    tracks = tracker.finish()
    return Survey(size, np.array(pts, np.int64), tuple(cuts), tracks, tones.of(tracks))


class _Tones:
    """Asks faces now and then, and where one comes or goes, whether they are of one tone: one answer for all of a track,
    lest its colours come and go."""

    def __init__(self, rate: float, template: str) -> None:
        self._every = max(1, round(TONES * rate))
        self._template = template
        self._count = 0
        self._said: dict[tuple[int, bytes], bool] = {}

    def add(self, frame: Frame, faces: Sequence[Face], is_cut: bool) -> None:
        is_same = len(faces) == self._count and not is_cut
        self._count = len(faces)
        if is_same and frame.number % self._every:
            return
        for face in faces:
            alignment = align(face.landmarks, TONE_SIZE, self._template)
            if not isinstance(alignment, str) and not alignment.region(*frame.picture.size).empty:
                key = frame.number, np.asarray(face.landmarks, np.float64).tobytes()
                self._said[key] = nearest_tone(extract(frame.picture, alignment))[1]

    def of(self, tracks: Sequence[Track]) -> frozenset[int]:
        """The numbers of those that were of one tone most of the time."""
        return frozenset(track.number for track in tracks if self._is_of_one(track))

    def _is_of_one(self, track: Track) -> bool:
        keys = ((track.first + n, landmarks.tobytes()) for n, landmarks in enumerate(track.raw))
        said = [self._said[key] for key in keys if key in self._said]
        return bool(said) and sum(said) * 2 > len(said)
