"""Many pictures from files to files: what goes where, and what became of each."""

from __future__ import annotations

import glob
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import files
from .devices import is_out_of_memory
from .errors import GpenError, InputError, OptionsError, OutOfMemory, OutputError
from .files import Photo
from .options import RestoreOptions
from .restorer import FaceRestorer, Progress, RestoreResult

log = logging.getLogger(__name__)

OTHER_PICTURES = (".gif", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".tga", ".exr", ".psd", ".pdf")


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
    result: RestoreResult | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"input": str(self.job.source), "output": None, "status": self.status}
        if self.status != "failed":
            out["output"] = str(self.job.target)
        if self.error is not None:
            out["error"] = str(self.error)
        if self.size is not None:
            out["width"], out["height"] = self.size
        if self.result is not None:
            out["smallest_face_px"] = round(self.result.smallest_face, 2)
            out["faces"] = [{"number": n, **face.to_json()} for n, face in enumerate(self.result.faces)]
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
    """Restores one picture after the other; `finished` hears of each. A picture that fails does not stop the others;
    missing or refused weights do (`WeightsError`)."""
    outcomes = []
    for job in jobs:
        outcome = Outcome(job)
        try:
            _restore(restorer, outcome, options, progress)
        except (InputError, OutputError, OutOfMemory) as error:
            outcome.error = error if str(job.source) in str(error) else type(error)(f"{job.source}: {error}")
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            # Reading, detecting and parsing need memory too, and know no smaller piece to try.
            outcome.error = OutOfMemory(
                f"{job.source}: there is not enough memory ({type(error).__name__}: {error}). Close other programs, or "
                "choose a smaller --detect-size or --device cpu."
            )
        outcomes.append(outcome)
        finished(outcome)
    return outcomes


def _restore(restorer: FaceRestorer, outcome: Outcome, options: RestoreOptions, progress: Progress | None) -> None:
    start = time.perf_counter()
    photo = files.read(outcome.job.source)
    outcome.seconds["read"] = time.perf_counter() - start
    outcome.size = (photo.picture.width, photo.picture.height)
    result = restorer.restore(photo.picture, options, progress=progress)
    outcome.seconds.update(result.seconds)
    start = time.perf_counter()
    _write(outcome.job, photo, result)
    outcome.seconds["write"] = time.perf_counter() - start
    outcome.result = result
    outcome.status = "restored" if result.changed else "unchanged"


def _write(job: Job, photo: Photo, result: RestoreResult) -> None:
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
