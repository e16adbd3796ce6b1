"""Pictures in memory that follow each other, restored as a film."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from ..errors import OptionsError, memory_for
from ..faces.face import Face
from ..images.image import FloatImage, Picture, as_picture
from ..options import RestoreOptions, VideoOptions
from ..pipeline.restorer import FaceRestorer
from ..progress import Progress, ProgressEvent, ReplayableProgress, StageTimer, no_progress
from .analysis import Survey, looked_at, survey
from .frame_restorer import DEPTH, RestoredFrame, Restoring
from .threaded_pipeline import Stages


@dataclass(frozen=True, eq=False)
class SequenceFrame:
    """One picture by its place."""

    number: int
    picture: Picture

    @property
    def pts(self) -> int:
        return self.number


@dataclass(frozen=True, eq=False)
class SequenceResult:
    """What became of one picture."""

    picture: Picture
    """The input's own where nothing was restored."""
    mask: FloatImage | None
    """[H, W] in [0, 1]: how much of each pixel is restored; None where nothing is."""
    faces: tuple[Face, ...]
    """Those that were followed, in the order of their tracks; `reason` says why one was left alone."""


def restore_sequence(
    restorer: FaceRestorer,
    pictures: Callable[[], Iterable[object]],
    options: RestoreOptions | None = None,
    video: VideoOptions | None = None,
    rate: float = 24.0,
    *,
    region_mask: FloatImage | None = None,
    progress: Progress | None = None,
    max_memory: int | None = None,
) -> Iterator[SequenceResult]:
    """Restores pictures of one size that follow each other `rate` times a second, one by one, as `restore_video` does.

    `pictures` gives them twice, the same each time: arrays or whatever else `Frame.image` may be but a path. Cuts are found,
    faces followed and evened out over time; of `video`, `temporal_smoothing` and `min_duration` count. `region_mask`,
    `progress`, `max_memory` and errors as in `restore_video`."""
    options, video, tell = options or RestoreOptions(), video or VideoOptions(), ReplayableProgress(progress or no_progress)
    if options.upscale != 1:
        raise OptionsError("Pictures that are a film keep their size: enlarge them before or after.")
    with memory_for("these pictures", "choose a smaller detection size"):
        found = _surveyed(restorer, pictures, options, rate, tell)
        work = Restoring.of(found, restorer, options, video, rate, tell, region_mask, max_memory)
        tell(_restoring(0, found))
        with Stages(tell.replay) as stages:
            for one in work.run(_frames(pictures), range(found.count), stages):
                yield _result(one, found, work)
                tell(_restoring(one.frame.number + 1, found))


def _restoring(done: int, found: Survey) -> ProgressEvent:
    return ProgressEvent("restore", done, found.count, "frame", "Restoring frames")


def _frames(pictures: Callable[[], Iterable[object]]) -> Iterator[SequenceFrame]:
    for number, one in enumerate(pictures()):
        yield SequenceFrame(number, as_picture(one))


def _surveyed(
    restorer: FaceRestorer,
    pictures: Callable[[], Iterable[object]],
    options: RestoreOptions,
    rate: float,
    tell: ReplayableProgress,
) -> Survey:
    with Stages(tell.replay) as stages:
        frames = stages.ahead(_frames(pictures), DEPTH)
        found = looked_at(frames, restorer, options, stages.check, StageTimer())

        def analyzed(done: int) -> None:
            tell(ProgressEvent("analyze", done, None, "frame", "Looking for faces"))

        return survey(found, rate, options, analyzed)


def _result(one: RestoredFrame[SequenceFrame], found: Survey, work: Restoring) -> SequenceResult:
    networks = work.networks
    faces = []
    for track in found.tracks:
        face = track.face(one.frame.number)
        if face is not None:
            is_restored = track.number in one.tracks
            network = networks.get(track.number) if is_restored else None
            faces.append(replace(face, restored=is_restored, reason=work.reasons[track.number], network=network))
    return SequenceResult(one.picture, one.mask, tuple(faces))
