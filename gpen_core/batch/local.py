"""Many pictures from files to files on this machine: read, restore and write overlapped."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from ..errors import GpenError, InputError, OutOfMemory, OutputError, memory_for, unexpected
from ..images import codecs
from ..images.codecs import Photo
from ..images.image import FloatImage, Picture, luminance
from ..images.resized_metadata import resized
from ..options import RestoreOptions
from ..pipeline import devices
from ..pipeline.inputs import Frame, scale_between
from ..pipeline.report import Outcome
from ..pipeline.restorer import FaceRestorer, RestoreResult
from ..pipeline.upscale import enlarged_size
from ..progress import Progress
from . import io
from .file_keys import same_file_key
from .io import format_of, write_bytes
from .job import Job, inputs_of
from .locations import Place

log = logging.getLogger(__name__)

Out = TypeVar("Out")

WRONG_VALUES = (ValueError, TypeError, LookupError, ArithmeticError)
"""Of the network's stage, what may be one picture's; a RuntimeError may be the device's, which ends the run."""


def run(
    restorer: FaceRestorer,
    jobs: Iterable[Job],
    options: RestoreOptions,
    finished: Callable[[Outcome], None],
    progress: Progress | None = None,
    max_memory: int | None = None,
) -> list[Outcome]:
    """As `stream`, and gives all outcomes back."""
    outcomes: list[Outcome] = []

    def noted(outcome: Outcome) -> None:
        outcomes.append(outcome)
        finished(outcome)

    stream(restorer, jobs, options, noted, progress, max_memory)
    return outcomes


def stream(
    restorer: FaceRestorer,
    jobs: Iterable[Job],
    options: RestoreOptions,
    finished: Callable[[Outcome], None],
    progress: Progress | None = None,
    max_memory: int | None = None,
    is_done: Callable[[Job], bool] | None = None,
) -> None:
    """Restores the pictures in order, any number of them: one job is asked for ahead, none is kept. While one is in the
    network, the next is read and the one before is encoded and written, each in a thread of its own. `finished` hears of
    each once its file is complete, in order; it and `progress` are called in the caller's thread, and `jobs` is iterated
    there. A picture that fails does not stop the others; missing or refused weights do (`WeightsError`). Whatever ends the
    run early, a write that has begun is finished, and told, before it is raised.

    `max_memory` is in bytes and bounds the network's activations, and as much again the pictures that are in memory at once
    (without it, half of the machine's memory does): what does not fit beside others waits, and what is not allowed at all
    is refused before it is decoded (`OutOfMemory`). How much a picture takes is estimated from its header.

    A job that `is_done` says is done already is skipped, and told so in its turn; nothing of it is read."""

    def restore(frame: Frame) -> RestoreResult:
        return restorer.restore_all([frame], options, progress=progress, max_memory=max_memory)[0]

    # Catching warnings, as reading does, is process-wide, and overlapping threads may leave each other's filters behind.
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=2, thread_name_prefix="gpen") as pool:
        line = _Line(pool, finished, max_memory, devices.host_room(max_memory), options.upscale)
        try:
            line.work_through((_turn(job, is_done) for job in jobs), restore)
        finally:
            line.stop()


@dataclass(frozen=True, eq=False)
class _Pictures:
    """What a job's files hold."""

    frame: Frame
    base: Photo


@dataclass(eq=False)
class _Turn:
    """A job on its way."""

    job: Job
    outcome: Outcome
    is_over: bool = False
    """Nothing is to be read."""
    need: int | None = None
    """Bytes; None before it was asked for."""


def _turn(job: Job, is_done: Callable[[Job], bool] | None) -> _Turn:
    turn = _Turn(job, Outcome(job))
    try:
        if is_done is not None and is_done(job):
            turn.outcome.status, turn.is_over = "skipped", True
    except InputError as error:  # of a store that did not answer
        turn.outcome.error, turn.is_over = error, True
    return turn


@dataclass
class _Line:
    """One picture read ahead, one in the network, one being written: no more than three are in memory.

    The first is read and the last is written in the caller's thread, as nothing is left to overlap with; a single
    picture therefore starts no thread."""

    pool: ThreadPoolExecutor
    finished: Callable[[Outcome], None]
    max_memory: int | None
    room: int | None
    """Bytes that the pictures in memory may take together; None where nobody says."""
    upscale: float = 1.0
    reading: Future[_Pictures | None] | None = None
    writing: tuple[Outcome, Future[None]] | None = None

    def work_through(self, turns: Iterator[_Turn], network: Callable[[Frame], RestoreResult]) -> None:
        before, turn = None, next(turns, None)
        while turn is not None:
            after = next(turns, None)
            self.restore(before, turn, after, network)
            before, turn = turn, after

    def restore(
        self, before: _Turn | None, turn: _Turn, after: _Turn | None, network: Callable[[Frame], RestoreResult]
    ) -> None:
        """One picture through `network`, alone once more if it ran out of memory beside others; then on to its write."""
        job, outcome = turn.job, turn.outcome
        pictures = None if turn.is_over else self._read(turn)
        if after is not None and not after.is_over:
            self._read_ahead(after, [one for one in (before, turn) if one is not None])
        result = None if pictures is None else _attempt(outcome, lambda: network(pictures.frame), WRONG_VALUES)
        if pictures is not None and result is None and isinstance(outcome.error, OutOfMemory) and self._make_room():
            log.warning("%s: out of memory beside other pictures; trying again alone.", job.source)
            outcome.error = None
            result = _attempt(outcome, lambda: network(pictures.frame), WRONG_VALUES)
        self._finish_writing()
        if pictures is None or result is None:
            self._tell(outcome)
        elif after is not None:
            self.writing = outcome, self.pool.submit(_write, job, outcome, pictures.base, result)
        else:
            _write(job, outcome, pictures.base, result)
            self._tell(outcome)

    def stop(self) -> None:
        if self.reading is not None:
            self.reading.cancel()
        self._finish_writing()

    def _make_room(self) -> bool:
        """Lets go of the pictures before and after this one. False where there are none."""
        was_shared = self.writing is not None or self.reading is not None
        if self.reading is not None and not self.reading.cancel():
            wait([self.reading])
        self.reading = None  # it is read again when its turn comes
        self._finish_writing()
        return was_shared

    def _read(self, turn: _Turn) -> _Pictures | None:
        job, outcome = turn.job, turn.outcome
        reading, self.reading = self.reading, None
        pictures = None if reading is None else reading.result()
        if pictures is not None or (reading is not None and not isinstance(outcome.error, OutOfMemory)):
            return pictures
        self._finish_writing()  # perhaps of this very file, see `_read_ahead`
        if isinstance(outcome.error, OutOfMemory):
            log.warning("%s: out of memory beside other pictures; reading it again alone.", job.source)
        outcome.error = None  # of when it was read ahead
        return _read(job, outcome, self.max_memory, self.upscale)

    def _read_ahead(self, turn: _Turn, others: list[_Turn]) -> None:
        """Not where the pictures would not fit into memory together, and not where an earlier result, not written yet, goes
        to the file to be read. A plan has no such jobs, except in place for a picture that is named twice; a caller may
        make others."""
        pending = {same_file_key(one.job.target) for one in others}
        if pending.isdisjoint(map(same_file_key, inputs_of(turn.job))) and self._fits([*others, turn]):
            self.reading = self.pool.submit(_read, turn.job, turn.outcome, self.max_memory, self.upscale)

    def _fits(self, turns: list[_Turn]) -> bool:
        """Whether the last turn's pictures fit beside those in the network; those being written are waited for if that
        helps."""
        if self.room is None:
            return True
        needs = [self._need(turn) for turn in turns]
        if sum(needs) > self.room >= sum(needs[-2:]):
            self._finish_writing()
        return sum(needs[-2:]) <= self.room

    def _need(self, turn: _Turn) -> int:
        if turn.need is None:
            turn.need = 0 if turn.is_over else int(sum(map(_needed, inputs_of(turn.job))) * self.upscale**2)
        return turn.need

    def _finish_writing(self) -> None:
        if self.writing is None:
            return
        outcome, written = self.writing
        wait([written])  # where this is interrupted, `writing` stays for `stop`
        self.writing = None
        written.result()  # raises what `_attempt` did not expect
        self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        try:
            self.finished(outcome)
        finally:
            _drop_pixels(outcome)


def _drop_pixels(outcome: Outcome) -> None:
    outcome.result = None
    error: BaseException | None = outcome.error
    while error is not None:  # the frames of a traceback hold their local variables, pixels among them
        error.__traceback__ = None
        error = error.__cause__


def _attempt(outcome: Outcome, work: Callable[[], Out], own: tuple[type[Exception], ...] = (Exception,)) -> Out | None:
    """What `work` returns; None if it fails for this picture alone, with the reason in `outcome`. So do errors that nobody
    foresaw, of the types `own`; errors of the weights, options and device end the run."""
    source = str(outcome.job.source)
    try:
        with memory_for("this picture", "choose a smaller detection size, or the CPU"):
            return work()
    except (InputError, OutputError, OutOfMemory) as error:
        outcome.error = error if source in str(error) else type(error)(f"{source}: {error}")
    except GpenError:
        raise
    except own as error:
        outcome.error = GpenError(f"{source}: {unexpected(error)} --debug shows where it happened.")
        outcome.error.__cause__ = error
    return None


def attempted(job: Job, work: Callable[[], None]) -> Outcome:
    """What became of a picture whose work is `work` alone: an error that is its own is in the outcome. Others are raised."""
    outcome = Outcome(job)
    _attempt(outcome, work)
    if outcome.error is None:
        outcome.status = "unchanged"
    return outcome


def _needed(place: Place) -> int:
    try:
        return io.needed_bytes(place)
    except Exception as error:  # which is told when its turn comes
        log.debug("%s: its need of memory is unknown: %s", place, error)
        return 0


def _read(job: Job, outcome: Outcome, max_memory: int | None, upscale: float) -> _Pictures | None:
    start = time.perf_counter()
    pictures = _attempt(outcome, lambda: _read_files(job, max_memory, upscale))
    if pictures is not None:
        outcome.seconds["read"] = time.perf_counter() - start
        outcome.size = pictures.base.picture.size
    return pictures


def _read_files(job: Job, max_memory: int | None, upscale: float) -> _Pictures:
    photo = io.read(job.source, max_memory)
    if upscale != 1:  # which takes long: what cannot be written is said before
        codecs.check_sides(format_of(job.target, photo.format), enlarged_size(photo.picture.size, upscale))
    before_swap = None if job.before_swap is None else io.read(job.before_swap, max_memory).picture
    base = photo if job.background is None else io.read(job.background, max_memory)
    background = None if job.background is None else base.picture
    region_mask = (
        None if job.region_mask is None else _region_mask(io.read(job.region_mask, max_memory).picture, photo.picture)
    )
    return _Pictures(Frame(photo.picture, before_swap, background, region_mask, job.boxes), base)


def _region_mask(mask: Picture, picture: Picture) -> FloatImage:
    """[H, W] in [0, 1]: its luminance. Raises `InputError` for one of other proportions than the picture's."""
    scale_between(picture.size, mask.size, "mask", smaller=True)
    return luminance(mask)


def _write(job: Job, outcome: Outcome, photo: Photo, result: RestoreResult) -> None:
    outcome.seconds.update(result.seconds)
    start = time.perf_counter()
    lost = _attempt(outcome, lambda: _write_file(job, photo, result))
    if lost is not None:
        outcome.seconds["write"] = time.perf_counter() - start
        outcome.faces, outcome.notes, outcome.result = result.faces, (*result.notes, *lost), result
        outcome.sizes = result.smallest_face, result.largest_face
        outcome.status = "restored" if result.changed else "enlarged" if _is_larger(photo, result) else "unchanged"
        outcome.size = result.picture.size


def _is_larger(photo: Photo, result: RestoreResult) -> bool:
    return result.picture.size != photo.picture.size


def _write_file(job: Job, photo: Photo, result: RestoreResult) -> tuple[str, ...]:
    """Notes on what the file that was written is without."""
    format_name = format_of(job.target, photo.format)
    # A file's name may not tell the truth; under the same suffix it is still copied as it is.
    same_format = format_name in (photo.format, format_of(job.base, photo.format))
    is_larger = _is_larger(photo, result)
    if result.changed or is_larger or not same_format:
        metadata = resized(photo.metadata, result.picture.size) if is_larger else photo.metadata
        restored = Photo(result.picture, metadata, photo.format, photo.lossy)
        write_bytes(job.target, codecs.encode(restored, format_name))
        return photo.left_out
    if job.target != job.base:  # nothing was restored: the file as it is loses nothing
        write_bytes(job.target, photo.data)  # not what the file holds by now
    return ()
