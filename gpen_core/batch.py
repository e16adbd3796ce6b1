"""Many pictures from files to files, and what became of each."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from . import files
from .devices import is_out_of_memory
from .errors import GpenError, InputError, OutOfMemory, OutputError
from .faces.face import Face
from .files import Photo
from .frame import Frame
from .jobs import Job, inputs_of, same_file_key
from .options import RestoreOptions
from .restorer import FaceRestorer, RestoreResult
from .weights.options import Progress

log = logging.getLogger(__name__)

Out = TypeVar("Out")


@dataclass
class Outcome:
    """What became of one picture."""

    job: Job
    status: str = "failed"
    """restored, unchanged (no face was restored) or failed."""
    error: GpenError | None = None
    size: tuple[int, int] | None = None
    faces: tuple[Face, ...] = ()
    sizes: tuple[float, float] | None = None
    """Of the smallest and largest face that could be found, in pixels; None for a picture that failed."""
    notes: tuple[str, ...] = ()
    result: RestoreResult | None = None
    """Only until `finished` has returned: the pixels of a whole folder would not fit into memory."""
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"input": str(self.job.source), "output": None, "status": self.status}
        if self.status != "failed":
            out["output"] = str(self.job.target)
        if self.error is not None:
            out["error"] = str(self.error)
        if self.size is not None:
            out["width"], out["height"] = self.size
        if self.sizes is not None:
            out["smallest_face_px"], out["largest_face_px"] = (round(size, 2) for size in self.sizes)
            out["faces"] = [{"number": n, **face.to_json()} for n, face in enumerate(self.faces)]
        if self.notes:
            out["notes"] = list(self.notes)
        out["seconds"] = {stage: round(value, 4) for stage, value in self.seconds.items()}
        return out


def run(
    restorer: FaceRestorer,
    jobs: Sequence[Job],
    options: RestoreOptions,
    finished: Callable[[Outcome], None],
    progress: Progress | None = None,
) -> list[Outcome]:
    """Restores the pictures in order. While one is in the network, the next is read and the one before is encoded and
    written, each in a thread of its own. `finished` hears of each once its file is complete, in order; it and `progress`
    are called in the caller's thread. A picture that fails does not stop the others; missing or refused weights do
    (`WeightsError`). Whatever ends the run early, a write that has begun is finished, and told, before it is raised."""
    outcomes = [Outcome(job) for job in jobs]

    def restore(frame: Frame) -> RestoreResult:
        return restorer.restore_all([frame], options, progress=progress)[0]

    # Catching warnings, as reading does, is process-wide, and overlapping threads may leave each other's filters behind.
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=2, thread_name_prefix="gpen") as pool:
        line = _Line(pool, outcomes, finished)
        try:
            for number in range(len(outcomes)):
                line.restore(number, restore)
        finally:
            line.stop()
    return outcomes


@dataclass(frozen=True, eq=False)
class _Pictures:
    """What a job's files hold."""

    frame: Frame
    base: Photo


@dataclass
class _Line:
    """One picture read ahead, one in the network, one being written: no more than three are in memory.

    The first is read and the last is written in the caller's thread, as nothing is left to overlap with; a single
    picture therefore starts no thread."""

    pool: ThreadPoolExecutor
    outcomes: list[Outcome]
    finished: Callable[[Outcome], None]
    reading: Future[_Pictures | None] | None = None
    writing: tuple[Outcome, Future[None]] | None = None

    def restore(self, number: int, network: Callable[[Frame], RestoreResult]) -> None:
        outcome = self.outcomes[number]
        pictures = self._read(outcome)
        self._read_ahead(number + 1)
        result = None if pictures is None else _attempt(outcome, lambda: network(pictures.frame))
        if pictures is not None and result is None and isinstance(outcome.error, OutOfMemory) and self._make_room():
            log.warning("%s: out of memory beside other pictures; trying again alone.", outcome.job.source)
            outcome.error = None
            result = _attempt(outcome, lambda: network(pictures.frame))
        # Told before the next write begins: `finished` may write files too, and `files` asks for the umask by setting it.
        self._finish_writing()
        if pictures is None or result is None:
            self._tell(outcome)
        elif number + 1 < len(self.outcomes):
            self.writing = outcome, self.pool.submit(_write, outcome, pictures.base, result)
        else:
            _write(outcome, pictures.base, result)
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

    def _read(self, outcome: Outcome) -> _Pictures | None:
        reading, self.reading = self.reading, None
        if reading is not None:
            return reading.result()
        self._finish_writing()  # perhaps of this very file, see `_read_ahead`
        return _read(outcome)

    def _read_ahead(self, number: int) -> None:
        """Not where an earlier result, not written yet, goes to the file to be read. `plan` allows no such jobs, except in
        place for a picture that is named twice; a caller may make others."""
        if number == len(self.outcomes):
            return
        pending = {same_file_key(outcome.job.target) for outcome in self.outcomes[max(0, number - 2) : number]}
        if pending.isdisjoint(map(same_file_key, inputs_of(self.outcomes[number].job))):
            self.reading = self.pool.submit(_read, self.outcomes[number])

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


def _attempt(outcome: Outcome, work: Callable[[], Out]) -> Out | None:
    """What `work` returns; None if it fails for this picture alone, with the reason in `outcome`."""
    try:
        return work()
    except (InputError, OutputError, OutOfMemory) as error:
        source = str(outcome.job.source)
        outcome.error = error if source in str(error) else type(error)(f"{source}: {error}")
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Reading, detecting and parsing need memory too, and know no smaller piece to try.
        outcome.error = OutOfMemory(
            f"{outcome.job.source}: there is not enough memory ({type(error).__name__}: {error}). Close other programs, or "
            "choose a smaller --detect-size or --device cpu."
        )
    return None


def _read(outcome: Outcome) -> _Pictures | None:
    start = time.perf_counter()
    pictures = _attempt(outcome, lambda: _read_files(outcome.job))
    if pictures is not None:
        outcome.seconds["read"] = time.perf_counter() - start
        outcome.size = (pictures.base.picture.width, pictures.base.picture.height)
    return pictures


def _read_files(job: Job) -> _Pictures:
    photo = files.read(job.source)
    original = None if job.original is None else files.read(job.original).picture
    base = photo if job.background is None else files.read(job.background)
    background = None if job.background is None else base.picture
    return _Pictures(Frame(photo.picture, original, background, boxes=job.boxes), base)


def _write(outcome: Outcome, photo: Photo, result: RestoreResult) -> None:
    outcome.seconds.update(result.seconds)
    start = time.perf_counter()
    _attempt(outcome, lambda: _write_file(outcome.job, photo, result))
    if outcome.error is None:
        outcome.seconds["write"] = time.perf_counter() - start
        outcome.faces, outcome.notes, outcome.result = result.faces, result.notes, result
        outcome.sizes = result.smallest_face, result.largest_face
        outcome.status = "restored" if result.changed else "unchanged"


def _write_file(job: Job, photo: Photo, result: RestoreResult) -> None:
    format_name = files.format_of(job.target, photo.format)
    # A file's name may not tell the truth; under the same suffix it is still copied as it is.
    same_format = format_name in (photo.format, files.format_of(job.base, photo.format))
    if result.changed or not same_format:
        restored = Photo(result.picture, photo.metadata, photo.format, photo.lossy)
        files.write_bytes(job.target, files.encode(restored, format_name))
    elif job.target != job.base:  # nothing was restored: the file as it is loses nothing
        files.write_bytes(job.target, job.base.read_bytes())


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """0 all done; 1 some failed; 3 no input could be read; 5 out of memory on every fallback."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if any(isinstance(error, OutOfMemory) for error in errors):
        return 5
    if len(errors) == len(outcomes) and all(isinstance(error, InputError) for error in errors):
        return 3
    return 1 if errors else 0


def report(
    restorer: FaceRestorer | None,
    names: dict[str, Any],
    options: RestoreOptions,
    outcomes: Sequence[Outcome],
    error: str | None = None,
) -> str:
    """The run as JSON. `error` is what ended it early."""
    from . import __version__

    content: dict[str, Any] = {"version": __version__, **names}
    if restorer is not None:
        content["size"] = restorer.network.size
        content["device"] = str(restorer.device)
        content["dtype"] = str(restorer.dtype).removeprefix("torch.")
    content["options"] = dict(vars(options))
    if error is not None:
        content["error"] = error
    content["inputs"] = [outcome.to_json() for outcome in outcomes]
    # JSON knows no NaN and no infinity, which a detector's boxes may hold; nor bytes that are no text, which names may.
    content = json.loads(json.dumps(content), parse_constant=lambda constant: None)
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return text.encode(errors="backslashreplace").decode()
