"""A film from file to file: what is in it, then its segments, then all of it with its sound."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from ..errors import DeviceError, InputError, OptionsError, memory_for
from ..faces.face import faces_text
from ..images.image import FloatImage
from ..optional_packages import calls_of
from ..options import RestoreOptions, VideoOptions
from ..pipeline.devices import host_room
from ..pipeline.restorer import FaceRestorer
from ..progress import Progress, ProgressEvent, ReplayableProgress, StageTimer, no_progress, pluralize
from ..version import __version__
from .analysis import Survey, looked_at, survey
from .encoding import Encoding, check_output, is_folder_target
from .frame_folder import refuse_clashes
from .frame_memory import depth_for
from .frame_restorer import DEPTH, RestoredFrame, Restoring
from .mux import join
from .probe import FOLDER_RATE, Film, probe
from .reader import FilmFrame, Reader
from .segments import Elsewhere, Finished, Parts
from .temporal_filter import RADIUS, Steadiness
from .threaded_pipeline import Stages, timed
from .timestamps import check_times
from .track import Track
from .work_dir import Work, digest_of_file, digest_of_networks, key_of
from .writer import SegmentWriter

log = logging.getLogger(__name__)

SHORTEST, LONGEST = 2.0, 5.0  # seconds of a segment: it ends at a cut, if there is one


@dataclass(frozen=True, eq=False)
class TrackOutcome:
    """What became of one face of the film."""

    track: Track
    reason: str | None
    """Why it was left alone."""
    network: int | None = None
    """Side in pixels of the network that restored it."""
    frames: int = 0
    """In how many it was restored."""
    before: Steadiness = field(default_factory=Steadiness)
    """How far following frames of the restored face differ along what moves, each restored by itself."""
    after: Steadiness = field(default_factory=Steadiness)
    """The same as it was written."""


@dataclass(frozen=True, eq=False)
class VideoResult:
    """What became of a film."""

    film: Film
    target: Path
    survey: Survey
    tracks: tuple[TrackOutcome, ...]
    restored: tuple[tuple[int, ...], ...]
    """Of each frame: the numbers of the tracks that were restored in it."""
    seconds: dict[str, float]
    """By stage: of the thread that it ran in. Stages overlap."""
    notes: tuple[str, ...]
    segments: tuple[int, int]
    """How many there were, and how many of them an earlier run had finished."""

    @property
    def summary(self) -> str:
        """One line for people: `48 frames, 3 faces followed, 2 restored, 1 skipped`."""
        restored = sum(track.frames > 0 for track in self.tracks)
        return f"{pluralize(len(self.restored), 'frame')}, {faces_text(len(self.tracks), restored, 'followed')}"


@dataclass
class _Run:
    """One film at work."""

    film: Film
    reader: Reader
    restorer: FaceRestorer
    options: RestoreOptions
    video: VideoOptions
    encoding: Encoding
    work: Work
    progress: ReplayableProgress
    max_memory: int | None
    frame_memory: int | None
    region_mask: FloatImage | None
    watch: StageTimer = field(default_factory=lambda: StageTimer({}))
    notes: list[str] = field(default_factory=list)
    """What is to be said at the end."""

    @property
    def rate(self) -> float:
        return float(self.film.rate or FOLDER_RATE)

    @property
    def target(self) -> Path:
        return self.work.target


def film_of(source: Path, video: VideoOptions, frame_memory: int | None = None) -> Film:
    """See `probe`. `frame_memory` as in `restore_video`."""
    fps = None if video.fps is None else Fraction(video.fps).limit_denominator(1001)
    return probe(source, fps, host_room(frame_memory))


@calls_of("av")
def check(
    source: Path, target: Path, options: RestoreOptions, video: VideoOptions, frame_memory: int | None = None
) -> tuple[Film, Encoding]:
    """The film and how it will be written. What can be refused before any network is loaded is refused here, with what
    `restore_video` raises for it."""
    film = film_of(source, video, frame_memory)
    if target.exists() and target.samefile(source):
        raise OptionsError(f"{target} is the film itself. Give another name for the output.")
    if is_folder_target(target) and target.exists() and not target.is_dir():
        raise OptionsError(f"{target} is a file, and without a suffix a folder of pictures is meant. Give another name.")
    if options.upscale != 1:
        raise OptionsError("A film keeps its size: upscale is for pictures. Enlarge the film before or after.")
    if video.start is not None and film.seconds is not None and video.start >= film.seconds:
        raise InputError(f"{source} is {film.seconds:.2f} s long: nothing comes after the start, {video.start:g} s.")
    if is_folder_target(target) and not Work(target).is_begun:  # else these may be frames that a killed run has moved
        refuse_clashes(film, target, video.start, video.end)
    encoding = check_output(film, target, Encoding(video.codec, video.crf))
    depth_for(film, encoding, (), RADIUS if video.temporal_smoothing > 0 else 0, host_room(frame_memory), film.count)
    return film, encoding


@memory_for("this film", "choose a smaller detection size")
@calls_of("av")
def restore_video(
    source: Path,
    target: Path,
    restorer: FaceRestorer,
    options: RestoreOptions | None = None,
    video: VideoOptions | None = None,
    *,
    region_mask: FloatImage | None = None,
    progress: Progress | None = None,
    max_memory: int | None = None,
    frame_memory: int | None = None,
    restart: bool = False,
    elsewhere: Elsewhere | None = None,
) -> VideoResult:
    """Restores the faces of a film (a file, or a folder of pictures) into `target`, with all its other streams.

    Memory does not grow with its length. `target` appears whole or not at all; until then finished segments wait in a folder
    beside it, from which the next run with the same film, options and networks goes on, unless `restart` is true.
    `region_mask` [H, W] in [0, 1], of any size: how much of each pixel may be restored. `progress` counts bytes while the
    film is read, then frames, and stops the work by raising `Interrupted`. `max_memory` bounds the network, as in
    `FaceRestorer.restore_all`, and `frame_memory` (bytes; without it, half of the machine's memory) the frames that are at
    work and the encoder: what cannot fit is refused from the header. With `elsewhere` the first pass and the joining are
    done here, the segments by other processes.
    Raises `InputError` for what is no film, has alpha, no frames, or streams that the target cannot hold, `OptionsError` for
    what cannot be, `OutputError` where it cannot be written or another run is writing it, `MissingExtra` without PyAV,
    and what `FaceRestorer.restore_all` raises."""
    options, video = options or RestoreOptions(), video or VideoOptions()
    tell = ReplayableProgress(progress or no_progress)
    film, encoding = check(source, target, options, video, frame_memory)
    reader = Reader(film, video.start, video.end)
    run = _Run(film, reader, restorer, options, video, encoding, Work(target), tell, max_memory, frame_memory, region_mask)
    restorer.prepare(options, tell)
    with run.work.locked(restart):
        return _restored(run, elsewhere)


def _restored(run: _Run, elsewhere: Elsewhere | None) -> VideoResult:
    content = digest_of_file(run.film.path, run.progress)
    found_key = _survey_key(run, content)
    found = _surveyed(run, found_key)
    check_times(run.film, found.pts, run.target, run.encoding, run.work.part(found_key))
    work = _restoring(run, found)
    if elsewhere is None:
        parts = _parts(run, found, _segments_key(run, found_key))
        missing = parts.missing()
        done = len(parts.ranges) - len(missing)
        work.depth = _depth(run, found, work)
        _restore_missing(run, found, work, parts, missing)
    else:
        parts, done = _finished_elsewhere(run, found, found_key, elsewhere)
    if run.work.others([found_key, parts.folder.name]):
        run.notes.append(f"{run.work.folder} also holds what runs with other options have left; a restart deletes it")
    join(parts.files, run.film, run.target, run.video.start, run.video.end, run.progress, run.encoding)
    result = _result(run, found, work, parts, done)
    left = run.work.clear()
    return result if left is None else replace(result, notes=(*result.notes, left))


def _restoring(run: _Run, found: Survey) -> Restoring:
    return Restoring.of(
        found, run.restorer, run.options, run.video, run.rate, run.progress, run.region_mask, run.max_memory, run.watch
    )


def _restoring_event(done: int, found: Survey) -> ProgressEvent:
    return ProgressEvent("restore", done, found.count, "frame", "Restoring frames")


def _depth(run: _Run, found: Survey, work: Restoring) -> int:
    return depth_for(run.film, run.encoding, work.chosen, work.radius, host_room(run.frame_memory), found.count)


def _finished_elsewhere(run: _Run, found: Survey, found_key: str, elsewhere: Elsewhere) -> tuple[Parts, int]:
    """The segments, and how many of them an earlier run had finished."""
    ranges = segments(found.count, found.cuts, run.rate)
    told: list[Finished] = []

    def finished(one: Finished) -> None:
        told.append(one)
        for stage, seconds in one.seconds.items():
            run.watch.seconds[stage] = run.watch.seconds.get(stage, 0.0) + seconds
        run.progress(_restoring_event(sum(len(ranges[other.number]) for other in told), found))

    before = set(run.work.folder.glob("*/*.json"))
    run.progress(_restoring_event(0, found))
    elsewhere(found_key, len(ranges), finished)
    names = sorted({one.part for one in told})
    if len(names) != 1:
        raise DeviceError(
            f"The segments were restored on different devices or in different precisions, and wait in {', '.join(names)} of "
            f"{run.work.folder}. They do not belong together: give all workers the same device and precision."
        )
    parts = _parts(run, found, names[0])
    return parts, len(before.intersection(parts.reports))


class SegmentRestorer:
    """Restores segments of a film whose first pass is done, for a run that waits for them, see `Elsewhere`. They go into
    that run's work folder, where a run without other processes finds them, too."""

    def __init__(
        self,
        source: Path,
        target: Path,
        restorer: FaceRestorer,
        options: RestoreOptions,
        video: VideoOptions,
        found_key: str,
        region_mask: FloatImage | None = None,
        max_memory: int | None = None,
        frame_memory: int | None = None,
    ) -> None:
        """`found_key` as `Elsewhere` is told it, all else as `restore_video`. Raises as that, and `InputError` where the
        first pass is not there."""
        film, encoding = check(source, target, options, video, frame_memory)
        reader, tell = Reader(film, video.start, video.end), ReplayableProgress(no_progress)
        run = _Run(
            film, reader, restorer, options, video, encoding, Work(target), tell, max_memory, frame_memory, region_mask
        )
        found = Survey.load(run.work.folder / found_key)
        if found is None:
            raise InputError(
                f"{run.work.folder} is not there for a worker, or without the first pass. It lies beside the output: give "
                "one in a folder that all machines share."
            )
        restorer.prepare(options, tell)
        self._run, self._found, self._work = run, found, _restoring(run, found)
        self._parts = _parts(run, found, _segments_key(run, found_key))
        self._work.depth = _depth(run, found, self._work)

    def restore(self, number: int) -> Finished:
        """Does nothing where it is finished. Raises as `restore_video`."""
        self._run.watch.seconds.clear()
        if self._parts.is_missing(number):
            with memory_for("this film", "choose a smaller detection size"), calls_of("av"):
                _restore_missing(self._run, self._found, self._work, self._parts, [number])
        return Finished(number, self._parts.folder.name, dict(self._run.watch.seconds))


def segments(count: int, cuts: Sequence[int], rate: float) -> list[range]:
    """The frames of each segment: as many as are shown in five seconds, or up to a cut after two and more."""
    shortest, longest = max(1, round(SHORTEST * rate)), max(1, round(LONGEST * rate))
    out: list[range] = []
    first = 0
    while first < count:
        ends = [cut for cut in cuts if first + shortest <= cut <= first + longest]
        last = min(ends[-1] if ends else first + longest, count)
        out.append(range(first, last))
        first = last
    return out


def _parts(run: _Run, found: Survey, key: str) -> Parts:
    return Parts(run.work.part(key), segments(found.count, found.cuts, run.rate))


def _segments_key(run: _Run, found_key: str) -> str:
    """What the segments depend on; to be asked for once all networks are loaded."""
    return key_of(found_key, digest_of_networks(run.restorer.modules()), _asked(run))


def _survey_key(run: _Run, content: str) -> str:
    """What the first pass depends on."""
    options = run.options
    asked = [options.confidence, options.detection_size, options.angles, options.template]
    detector = digest_of_networks([run.restorer.detector.network])
    return key_of(__version__, content, run.video.start, run.video.end, run.video.fps, detector, asked)


def _asked(run: _Run) -> list[Any]:
    """What the second pass depends on beside the first and the networks."""
    region_mask = None if run.region_mask is None else hashlib.sha256(run.region_mask.tobytes()).hexdigest()
    device = [str(run.restorer.device), str(run.restorer.dtype)]
    return [asdict(run.options), asdict(run.video), asdict(run.encoding), run.target.suffix, region_mask, device]


def _surveyed(run: _Run, key: str) -> Survey:
    """From the work folder, if an earlier run came to its end."""
    folder = run.work.part(key)
    known = Survey.load(folder)
    if known is not None:
        return known
    count = run.film.count or None
    waited = StageTimer({})
    with Stages(run.progress.replay) as stages:
        frames = stages.ahead(timed(run.reader.frames(), run.watch, "decode"), DEPTH)
        found = timed(
            stages.ahead(looked_at(frames, run.restorer, run.options, stages.check, run.watch), DEPTH), waited, "detect"
        )

        def tell(done: int) -> None:
            done = done if count is None else min(done, count)
            run.progress(ProgressEvent("analyze", done, count, "frame", "Looking for faces"))

        with run.watch.stage("follow"):
            result = survey(found, run.rate, run.options, tell)
    run.watch.seconds["follow"] -= waited.seconds["detect"]
    result = replace(result, notes=tuple(run.reader.notes))
    result.save(folder)
    return result


def _restore_missing(run: _Run, found: Survey, work: Restoring, parts: Parts, missing: Sequence[int]) -> None:
    """Neighbouring segments together: the faces around their borders then go through the network once."""
    for _, group in groupby(enumerate(missing), lambda pair: pair[1] - pair[0]):
        numbers = [n for _, n in group]
        wanted = range(parts.ranges[numbers[0]].start, parts.ranges[numbers[-1]].stop)
        first = max(0, wanted.start - work.run_up)
        frames = run.reader.frames(first, found.pts)
        until = min(found.count, wanted.stop + work.radius) - first
        run.progress(_restoring_event(wanted.start, found))
        with Stages(run.progress.replay) as stages:
            restored = work.run(islice(frames, until), wanted, stages)
            _write_segments(run, found, numbers, parts, stages.ahead(restored, work.depth))


def _write_segments(
    run: _Run, found: Survey, numbers: Sequence[int], parts: Parts, restored: Iterator[RestoredFrame[FilmFrame]]
) -> None:
    for n in numbers:
        frames: list[list[int]] = []
        steadiness: dict[int, tuple[Steadiness, Steadiness]] = {}
        notes: list[str] = []
        with SegmentWriter(parts.files[n], run.film, run.encoding) as writer:
            for one in islice(restored, len(parts.ranges[n])):
                with run.watch.stage("encode"):
                    touched = None if one.mask is None else one.mask > 0
                    writer.write(one.frame, None if touched is None else one.picture, touched)
                frames.append(list(one.tracks))
                notes += [note for note in one.notes if note not in notes]
                for track, (before, after) in one.steadiness.items():
                    sums = steadiness.setdefault(track, (Steadiness(), Steadiness()))
                    sums[0].add(before)
                    sums[1].add(after)
                run.progress(_restoring_event(one.frame.number + 1, found))
        if len(frames) < len(parts.ranges[n]):
            raise InputError(f"{run.film.path} ended in frame {parts.ranges[n].start + len(frames)}; it changed meanwhile.")
        told = {str(track): [[one.weight, one.squares] for one in pair] for track, pair in steadiness.items()}
        parts.tell(n, {"frames": frames, "steadiness": told, "notes": notes})


def _result(run: _Run, found: Survey, work: Restoring, parts: Parts, done: int) -> VideoResult:
    restored: list[tuple[int, ...]] = []
    steadiness = {track.number: (Steadiness(), Steadiness()) for track in found.tracks}
    for n in range(len(parts.ranges)):
        told = parts.told(n)
        restored += [tuple(tracks) for tracks in told["frames"]]
        run.notes += [note for note in told["notes"] if note not in run.notes]
        for track, pair in told["steadiness"].items():
            for total, one in zip(steadiness[int(track)], pair):
                total.add(Steadiness(*one))
    counts = Counter(track for tracks in restored for track in tracks)
    networks = work.networks
    outcomes = [
        TrackOutcome(track, work.reasons[n], networks.get(n), counts[n], *steadiness[n])
        for n, track in ((track.number, track) for track in found.tracks)
    ]
    notes = tuple(dict.fromkeys([*run.notes, *found.notes, *run.reader.notes, *run.encoding.notes]))
    return VideoResult(
        run.film, run.target, found, tuple(outcomes), tuple(restored), run.watch.seconds, notes, (len(parts.ranges), done)
    )
