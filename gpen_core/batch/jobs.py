"""Which files a run reads and writes."""

from __future__ import annotations

import glob
import logging
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, OptionsError
from ..pictures import files

log = logging.getLogger(__name__)

OTHER_PICTURES = (".gif", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".tga", ".exr", ".psd", ".pdf")


Boxes = tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Job:
    source: Path
    target: Path
    original: Path | None = None
    """The picture before a face swap."""
    background: Path | None = None
    """The same picture enlarged."""
    boxes: Boxes | None = None
    """x0, y0, x1, y1: where faces are to be restored, and looked for closely."""
    limit: Path | None = None
    """A mask of any size over the whole picture: white where faces may be restored, black where not."""

    @property
    def base(self) -> Path:
        """The picture that faces are put into, whose size, format and metadata the result has."""
        return self.background or self.source


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
            found.setdefault(same_file_key(one), one)
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


def plan(
    sources: Sequence[Path],
    out: Path | None,
    in_place: bool,
    changed_from: Path | None = None,
    background: Path | None = None,
    boxes: Boxes | None = None,
    limit: Path | None = None,
) -> list[Job]:
    """Where each result goes, and which originals, backgrounds and masks belong to which picture (files, or folders of
    files of the same names). Raises `OptionsError` where a result would overwrite an input or another result."""
    if in_place:
        targets = list(sources)
    elif out is None:
        raise OptionsError("Say where the results go: -o FILE or FOLDER, or --in-place.")
    else:
        targets = _targets(sources, out)
    originals = _companions(sources, changed_from, "--changed-from")
    backgrounds = _companions(sources, background, "--background")
    limits = _companions(sources, limit, "--limit")
    of_each = zip(sources, targets, originals, backgrounds, limits)
    jobs = [Job(source, target, before, behind, boxes, mask) for source, target, before, behind, mask in of_each]
    if in_place:
        return jobs
    inputs = {same_file_key(path): path for job in jobs for path in inputs_of(job)}
    taken: dict[str, Path] = {}
    for job in jobs:
        key = same_file_key(job.target)
        if key in inputs:
            raise OptionsError(f"{job.target} is an input and would be overwritten. Choose another -o, or --in-place.")
        if key in taken:
            raise OptionsError(f"{taken[key]} and {job.source} would both become {job.target}. Restore them separately.")
        taken[key] = job.source
    return jobs


def inputs_of(job: Job) -> list[Path]:
    return [path for path in (job.source, job.original, job.background, job.limit) if path is not None]


def _companions(sources: Sequence[Path], given: Path | None, option: str) -> list[Path | None]:
    """For each picture the file given, or the one of its name in the folder given."""
    if given is None:
        return [None] * len(sources)
    if not _is_folder(given):
        if len(sources) > 1:
            raise OptionsError(f"{option} names one file for {len(sources)} pictures. Give a folder.")
        return [given]
    named: dict[str, list[Path]] = defaultdict(list)
    for path in _pictures_in(given):
        named[path.stem.casefold()].append(path)
    missing = [source.name for source in sources if source.stem.casefold() not in named]
    if missing:
        raise OptionsError(f"{option}: {given} holds no picture named like {', '.join(missing[:5])}.")
    return [_companion(source, named[source.stem.casefold()], option) for source in sources]


def _companion(source: Path, named: Sequence[Path], option: str) -> Path:
    """Of those that are named like the picture: the only one, or that of its own kind."""
    same_kind = [path for path in named if path.name.casefold() == source.name.casefold()]
    for some in (named, same_kind):
        if len(some) == 1:
            return some[0]
    names = ", ".join(path.name for path in named)
    raise OptionsError(f"{option}: of {names} in {named[0].parent} any may belong to {source.name}. Leave one there.")


def check_report(report: Path, jobs: Sequence[Job]) -> None:
    """Raises `OptionsError` where the report would overwrite a picture or cannot be a file."""
    if _is_folder(report):
        raise OptionsError(f"The report {report} is a folder. Name a file, such as {report / 'report.json'}.")
    if same_file_key(report) in {same_file_key(path) for job in jobs for path in (*inputs_of(job), job.target)}:
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


def same_file_key(path: Path) -> str:
    """Equal for two names of one file."""
    real = os.path.normcase(os.path.realpath(path))
    return real.casefold() if sys.platform == "darwin" else real  # where case rarely tells files apart
