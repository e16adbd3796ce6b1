"""The videos of a run and their outputs, checked before anything is loaded."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError, OptionsError
from ..files.atomic_write import check_folder_writable
from ..files.path_checks import is_folder
from ..options import VideoOptions
from ..video.container_choice import output_suffix
from ..video.containers import INPUT_SUFFIXES, OUTPUT_FORMATS
from .file_keys import same_file_key
from .locations import Url, parse_location
from .output_names import check_suffix, conflict_advice, expand_suffix
from .read_files import ReadFiles
from .sources import InputItem, Sources

FRAMES = "png"
"""The format of results that are folders of images."""
FALLBACK_SUFFIX = ".mp4"  # for the result of a video that cannot be read and will fail


@dataclass(frozen=True)
class VideoJob:
    source: Path
    target: Path


@dataclass(frozen=True)
class VideoOutputSpec:
    """The requested outputs of a run. Raises `OptionsError` for an invalid suffix."""

    out: Path
    is_folder: bool = False
    """Whether `out` is a folder of results even for one named video."""
    format: str | None = None
    """The format of all results, one of `options.video.VIDEO_FORMATS`. None: the input's, or one that holds its streams."""
    suffix: str = ""
    """A text to append to each name, before the format's suffix; see `expand_suffix`."""

    def __post_init__(self) -> None:
        check_suffix(self.suffix)


@dataclass(frozen=True)
class VideoPlan:
    """The jobs of a run in the order of the inputs, each video once."""

    jobs: tuple[VideoJob, ...]
    is_single: bool
    """Whether the user named one video and its output."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """See `Sources.left_out`."""

    def check_report(self, report: Path, read: ReadFiles) -> None:
        """Raise `OptionsError` if the report would overwrite a video or one of the files `read`, or is a folder."""
        if is_folder(report):
            raise OptionsError(f"The report {report} is a folder. Choose a file, such as {report / 'report.json'}.")
        if same_file_key(report) in {same_file_key(path) for job in self.jobs for path in (job.source, job.target)}:
            raise OptionsError(f"The report {report} would overwrite the video. Choose another file.")
        read.raise_if_overwritten(report, same_file_key(report), "Choose another --report.")


def plan_videos(sources: Sources, spec: VideoOutputSpec, video: VideoOptions) -> VideoPlan:
    """Assign its output to each video.

    One named video becomes `spec.out`, which is a folder of images if it has no suffix. Several videos, and those of
    folders, patterns and lists, get their names in the folder `spec.out`.

    Raises `OptionsError` if a result would overwrite an input or another result, `InputError` for a URL, an unreadable
    folder or list, or if there is no video, and `OutputError` if the folder of the results is not writable."""
    for argument in sources.arguments:
        _raise_if_url(argument)
    items = _unique(sources)
    if not items:
        raise InputError(sources.no_images_text())
    is_named = sources.listing is None and [item.source for item in items] == [*map(str, map(Path, sources.arguments))]
    if is_named and len(items) == 1 and not spec.is_folder:
        if spec.suffix or spec.format is not None:
            raise OptionsError(f"--suffix and --format are for folders. Name the output, or end -o {spec.out} with a slash.")
        plan = VideoPlan((VideoJob(Path(items[0].source), spec.out),), True)
    else:
        plan = VideoPlan(tuple(_job(item, spec, len(items), video) for item in items), False, sources.left_out)
        raise_if_conflicts(plan.jobs, ReadFiles(job.source for job in plan.jobs))
    check_folder_writable(plan.jobs[0].target.parent)
    return plan


def raise_if_unmatched(job: VideoJob) -> None:
    """Raise `InputError` for a pattern without files."""
    name = str(job.source)
    if glob.has_magic(name) and not os.path.lexists(name):
        raise InputError(f"No file matches {name}.")


def _raise_if_url(text: str) -> None:
    if isinstance(parse_location(text), Url):
        raise InputError(f"{text} is a URL, but videos are read from local files. Download it first.")


def _unique(sources: Sources) -> list[InputItem]:
    found: dict[str, InputItem] = {}
    for item in sources:
        _raise_if_url(item.source)
        found.setdefault(same_file_key(Path(item.source)), item)
    return list(found.values())


def _job(item: InputItem, spec: VideoOutputSpec, count: int, video: VideoOptions) -> VideoJob:
    source, out = Path(item.source), spec.out
    is_file = out.suffix.lower() in OUTPUT_FORMATS or os.path.lexists(out)
    if spec.is_folder or is_folder(out) or not is_file:
        return VideoJob(source, out / _result_name(source, item.relative_path, spec, video))
    if count > 1:
        raise OptionsError(f"{out} is one file, but there are {count} videos. Use a folder for -o.")
    return VideoJob(source, out)


def _result_name(source: Path, relative_path: str, spec: VideoOutputSpec, video: VideoOptions) -> str:
    """Return the path of a result below OUT."""
    stem, suffix = os.path.splitext(relative_path)  # noqa: PTH122  a path below OUT with / on every system
    if suffix.lower() not in INPUT_SUFFIXES or is_folder(source):  # not a suffix, but part of the name
        stem, suffix = relative_path, ""
    stem += expand_suffix(spec.suffix, suffix)
    if spec.format == FRAMES:
        folders, slash, name = stem.rpartition("/")
        return f"{folders}{slash}{name.replace('.', '_')}"  # a folder of images has no suffix
    if spec.format is not None:
        suffix = f".{spec.format}"
    elif suffix.lower() not in OUTPUT_FORMATS:
        suffix = writable_suffix(source, video)
    return f"{stem}{suffix}"


def writable_suffix(source: Path, video: VideoOptions) -> str:
    """Return the suffix of a container that can hold the video's streams."""
    try:
        return output_suffix(source, video)
    except InputError:  # reading the video raises it later
        return FALLBACK_SUFFIX


def raise_if_conflicts(jobs: Iterable[VideoJob], read: ReadFiles) -> None:
    """Raise `OptionsError` if a result would overwrite one of the files `read` or another result, or be inside another."""
    results: dict[str, VideoJob] = {}
    for job in jobs:
        key = same_file_key(job.target)
        read.raise_if_overwritten(job.target, key)
        other = results.setdefault(key, job)
        if other is not job:
            both = other.source, job.source
            raise OptionsError(f"{both[0]} and {both[1]} would both become {job.target}. {conflict_advice(*both)}")
    for key, job in results.items():
        above = next((results[str(folder)] for folder in Path(key).parents if str(folder) in results), None)
        if above is not None:
            raise OptionsError(
                f"{above.source} would become {above.target}, which is also the folder of {job.target}. Add --suffix _new."
            )
