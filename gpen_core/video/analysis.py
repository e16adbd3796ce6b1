"""The first pass over a video: detects faces and cuts, and tracks the faces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..faces.align import align_face, crop_face
from ..faces.color import fit_tone, photo_residual
from ..faces.face import Face
from ..files.path_checks import exists
from ..images.image import ImageData
from ..options import RestoreOptions
from .shots import ShotDetector
from .track import READ_ERRORS, Track, load_tracks, save_arrays, save_tracks
from .tracker import Tracker

TONE_INTERVAL = 0.25  # seconds between two checks whether a face is monochrome
TONE_SIZE = 128  # px


class FrameLike(Protocol):
    """One frame of a video or of a sequence of images."""

    @property
    def number(self) -> int:
        """Counted from 0."""

    @property
    def pts(self) -> int:
        """Presentation time in the video's time base."""

    @property
    def image(self) -> ImageData: ...


FrameT = TypeVar("FrameT", bound=FrameLike)


@dataclass(frozen=True, eq=False)
class VideoAnalysis:
    """The result of the first pass over a video."""

    size: tuple[int, int]
    """Width and height in pixels."""
    pts: NDArray[np.int64]
    """[N] presentation times of the frames, in the video's time base."""
    cuts: tuple[int, ...]
    """Numbers of the frames that begin a shot, without the first frame."""
    tracks: tuple[Track, ...]
    monochrome_tracks: frozenset[int]
    """Numbers of the tracks that are gray or sepia."""
    notes: tuple[str, ...] = ()
    """Notes about defects of the video."""

    @property
    def frame_count(self) -> int:
        return len(self.pts)

    def save(self, folder: Path) -> None:
        """Write the analysis into the folder, each file atomically. Raises `OutputError`."""
        save_tracks(folder / "tracks.npz", self.tracks)
        cuts, tones = (np.array(numbers, np.int64) for numbers in (self.cuts, sorted(self.monochrome_tracks)))
        arrays = {"size": np.array(self.size), "pts": self.pts, "cuts": cuts, "tones": tones}
        save_arrays(folder / "analysis.npz", {**arrays, "notes": np.array(self.notes, np.str_)})

    @classmethod
    def load(cls, folder: Path) -> VideoAnalysis | None:
        """Load the files of `save`, or return None if there are none. Raises `InputError` if they are damaged."""
        path = folder / "analysis.npz"
        if not exists(path):
            return None
        try:
            with np.load(path, allow_pickle=False) as saved:
                width, height = (int(v) for v in saved["size"])
                cuts, tones = (tuple(int(v) for v in saved[name]) for name in ("cuts", "tones"))
                pts = saved["pts"].astype(np.int64)
                notes = tuple(str(note) for note in saved["notes"])
        except READ_ERRORS as error:
            raise InputError(f"{path} is damaged: {error}. Delete it and run again.") from error
        return cls((width, height), pts, cuts, load_tracks(folder / "tracks.npz"), frozenset(tones), notes)


def track_faces(
    detections: Iterable[tuple[FrameLike, Sequence[Face]]],
    rate: float,
    options: RestoreOptions,
    on_frame: Callable[[int], None] = lambda done: None,
) -> VideoAnalysis:
    """Track the faces of consecutive frames, detected by `frame_detection.detect_frames`, and find cuts.

    `rate`: frames per second. `on_frame` is called with the number of frames done. Raises `InputError` if there is no
    frame, or if the frames differ in size."""
    tracker, shot_detector, tones = Tracker(rate, options.confidence), ShotDetector(rate), _ToneVote(rate, options.template)
    size: tuple[int, int] | None = None
    pts: list[int] = []
    cuts: list[int] = []
    for frame, faces in detections:
        size = size or frame.image.size
        if frame.image.size != size:
            was = f"{frame.image.width}x{frame.image.height}"
            raise InputError(f"Frame {frame.number} is {was}, but the frames before it are {size[0]}x{size[1]}.")
        found = shot_detector.add(frame.image)
        for cut in found:
            if cut != frame.number:
                tracker.split(cut)
        is_cut = tracker.add(frame.number, frame.image, faces, frame.number in found)
        cuts += [*found, frame.number] if is_cut and frame.number not in found else found
        tones.add(frame, faces, is_cut)
        pts.append(frame.pts)
        on_frame(len(pts))
    if size is None:
        raise InputError("The video has no frame, or none between the start and the end.")
    tracks = tracker.finish()
    return VideoAnalysis(size, np.array(pts, np.int64), tuple(sorted(cuts)), tracks, tones.monochrome_tracks(tracks))


class _ToneVote:
    """Checks at intervals, and when a face appears or disappears, whether faces are monochrome.

    Each track gets one answer, so that its colors do not change over time."""

    def __init__(self, rate: float, template: str) -> None:
        self._interval = max(1, round(TONE_INTERVAL * rate))
        self._template = template
        self._face_count = 0
        self._votes: dict[tuple[int, bytes], bool] = {}

    def add(self, frame: FrameLike, faces: Sequence[Face], is_cut: bool) -> None:
        is_same = len(faces) == self._face_count and not is_cut
        self._face_count = len(faces)
        if is_same and frame.number % self._interval:
            return
        photo = photo_residual(frame.image) if faces else math.inf
        for face in faces:
            alignment = align_face(face.landmarks, TONE_SIZE, self._template)
            if not isinstance(alignment, str) and not alignment.source_region(*frame.image.size).empty:
                key = frame.number, np.asarray(face.landmarks, np.float64).tobytes()
                self._votes[key] = fit_tone(crop_face(frame.image, alignment), photo)[1]

    def monochrome_tracks(self, tracks: Sequence[Track]) -> frozenset[int]:
        """Return the numbers of the tracks that were monochrome in most checks."""
        return frozenset(track.number for track in tracks if self._is_monochrome(track))

    def _is_monochrome(self, track: Track) -> bool:
        keys = ((track.first + n, landmarks.tobytes()) for n, landmarks in enumerate(track.raw))
        votes = [self._votes[key] for key in keys if key in self._votes]
        return bool(votes) and sum(votes) * 2 > len(votes)
