"""Many pictures from files to files: what goes where, and what became of each."""

from __future__ import annotations

import glob
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from . import files
from .devices import is_out_of_memory
from .errors import GpenError, InputError, OptionsError, OutOfMemory, OutputError
from .faces.face import Face
from .files import Photo
from .images import Picture
from .options import RestoreOptions
from .restorer import FaceRestorer, RestoreResult
from .weights.options import Progress

log = logging.getLogger(__name__)

OTHER_PICTURES = (".gif", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".tga", ".exr", ".psd", ".pdf")

Out = TypeVar("Out")


@dataclass(frozen=True)
class Job:
    source: Path
    target: Path


@dataclass
class Outcome:
    """What became of one picture."""

    job: Job
    status: str = "failed"
    """restored, unchanged (no face was restored) or failed."""
    error: GpenError | None = None
    size: tuple[int, int] | None = None
    faces: tuple[Face, ...] = ()
    smallest_face: float | None = None
    """In pixels; None for a picture that failed."""
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
        if self.smallest_face is not None:
            out["smallest_face_px"] = round(self.smallest_face, 2)
            out["faces"] = [{"number": n, **face.to_json()} for n, face in enumerate(self.faces)]
        out["seconds"] = {stage: round(value, 4) for stage, value in self.seconds.items()}
        return out


def expand(arguments: Iterable[str]) -> list[Path]:
    """The pictures that files, folders (not what lies deeper) and glob patterns name, each once. Names that stand for
    nothing stay in: reading them says why."""
    found: dict[str, Path] = {}
    empty = []
    for argument in arguments:
        if not argument:
            raise OptionsError("An input has an empty name. Name a picture, a folder (. is this one) or a pattern.")
        path = Path(argument)
        if _is_folder(path):
            some = _pictures_in(path)
        elif not os.path.lexists(path) and glob.has_magic(argument):
            some = [Path(p) for p in sorted(glob.glob(argument, recursive=True)) if not _is_folder(p)] or [path]
        else:
            some = [path]
        for one in some:
            found.setdefault(_same(one), one)
        if not some:
            empty.append(argument)
    if empty and found:  # with nothing found, the caller has that to say
        log.warning("No pictures (%s) in %s.", ", ".join(files.SUFFIXES), ", ".join(empty))
    return list(found.values())


def _pictures_in(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror or error}.") from error
    visible = [path for path in paths if not path.name.startswith(".")]
    return [path for path in visible if path.suffix.lower() in files.SUFFIXES and not _is_folder(path)]


def plan(sources: Sequence[Path], out: Path | None, in_place: bool) -> list[Job]:
    """Where each result goes. Raises `OptionsError` where a result would overwrite an input or another result."""
    if in_place:
        return [Job(source, source) for source in sources]
    if out is None:
        raise OptionsError("Say where the results go: -o FILE or FOLDER, or --in-place.")
    jobs = [Job(source, target) for source, target in zip(sources, _targets(sources, out))]
    inputs = {_same(source): source for source in sources}
    taken: dict[str, Path] = {}
    for job in jobs:
        key = _same(job.target)
        if key in inputs:
            raise OptionsError(f"{job.target} is an input and would be overwritten. Choose another -o, or --in-place.")
        if key in taken:
            raise OptionsError(f"{taken[key]} and {job.source} would both become {job.target}. Restore them separately.")
        taken[key] = job.source
    return jobs


def check_report(report: Path, jobs: Sequence[Job]) -> None:
    """Raises `OptionsError` where the report would overwrite a picture or cannot be a file."""
    if _is_folder(report):
        raise OptionsError(f"The report {report} is a folder. Name a file, such as {report / 'report.json'}.")
    if _same(report) in {_same(path) for job in jobs for path in (job.source, job.target)}:
        raise OptionsError(f"The report {report} would overwrite a picture. Name a file of its own.")


def _targets(sources: Sequence[Path], out: Path) -> list[Path]:
    suffix = out.suffix.lower()
    known = suffix in files.SUFFIXES
    is_file = known or suffix in OTHER_PICTURES or os.path.lexists(out) or (suffix and len(sources) == 1)
    if _is_folder(out) or not is_file:
        return [out / source.name for source in sources]
    if len(sources) > 1:
        raise OptionsError(f"{len(sources)} pictures do not fit into one file: {out}. Give a folder.")
    if not known:
        raise OptionsError(
            f"{out}: a picture of type {suffix or 'none'} cannot be written. Choose one of {', '.join(files.SUFFIXES)}; "
            "if a folder is meant, make it first."
        )
    return [out]


def _is_folder(path: str | Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  Path.is_dir raises on names that are too long


def _same(path: Path) -> str:
    """Equal for two names of one file."""
    real = os.path.normcase(os.path.realpath(path))
    return real.casefold() if sys.platform == "darwin" else real  # where case rarely tells files apart


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
    # Catching warnings, as reading does, is process-wide, and overlapping threads may leave each other's filters behind.
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=2, thread_name_prefix="gpen") as pool:
        line = _Line(pool, outcomes, finished)
        try:
            for number in range(len(outcomes)):
                line.restore(number, lambda picture: restorer.restore(picture, options, progress=progress))
        finally:
            line.stop()
    return outcomes


@dataclass
class _Line:
    """One picture read ahead, one in the network, one being written: no more than three are in memory.

    The first is read and the last is written in the caller's thread, as nothing is left to overlap with; a single
    picture therefore starts no thread."""

    pool: ThreadPoolExecutor
    outcomes: list[Outcome]
    finished: Callable[[Outcome], None]
    reading: Future[Photo | None] | None = None
    writing: tuple[Outcome, Future[None]] | None = None

    def restore(self, number: int, network: Callable[[Picture], RestoreResult]) -> None:
        outcome = self.outcomes[number]
        photo = self._read(outcome)
        self._read_ahead(number + 1)
        result = None if photo is None else _attempt(outcome, lambda: network(photo.picture))
        # Told before the next write begins: `finished` may write files too, and `files` asks for the umask by setting it.
        self._finish_writing()
        if photo is None or result is None:
            self._tell(outcome)
        elif number + 1 < len(self.outcomes):
            self.writing = outcome, self.pool.submit(_write, outcome, photo, result)
        else:
            _write(outcome, photo, result)
            self._tell(outcome)

    def stop(self) -> None:
        if self.reading is not None:
            self.reading.cancel()
        self._finish_writing()

    def _read(self, outcome: Outcome) -> Photo | None:
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
        pending = {_same(outcome.job.target) for outcome in self.outcomes[max(0, number - 2) : number]}
        if _same(self.outcomes[number].job.source) not in pending:
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


def _read(outcome: Outcome) -> Photo | None:
    start = time.perf_counter()
    photo = _attempt(outcome, lambda: files.read(outcome.job.source))
    if photo is not None:
        outcome.seconds["read"] = time.perf_counter() - start
        outcome.size = (photo.picture.width, photo.picture.height)
    return photo


def _write(outcome: Outcome, photo: Photo, result: RestoreResult) -> None:
    outcome.seconds.update(result.seconds)
    start = time.perf_counter()
    _attempt(outcome, lambda: _write_file(outcome.job, photo, result))
    if outcome.error is None:
        outcome.seconds["write"] = time.perf_counter() - start
        outcome.faces, outcome.smallest_face, outcome.result = result.faces, result.smallest_face, result
        outcome.status = "restored" if result.changed else "unchanged"


def _write_file(job: Job, photo: Photo, result: RestoreResult) -> None:
    format_name = files.format_of(job.target, photo.format)
    # A file's name may not tell the truth; under the same suffix it is still copied as it is.
    same_format = format_name in (photo.format, files.format_of(job.source, photo.format))
    if result.changed or not same_format:
        restored = Photo(result.picture, photo.metadata, photo.format, photo.lossy)
        files.write_bytes(job.target, files.encode(restored, format_name))
    elif job.target != job.source:  # nothing was restored: the file as it is loses nothing
        files.write_bytes(job.target, job.source.read_bytes())


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
