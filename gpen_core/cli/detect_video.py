"""The part of `gpen detect` that lists the people of videos."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, OptionsError, OutOfMemory, OutputError
from ..files.path_checks import exists, is_folder
from ..options import RestoreOptions, VideoOptions
from ..progress import pluralize
from .detect_people import as_sentence, detect_one, raise_if_deleted
from .progress_display import ProgressReporter, progress_reporter
from .report_text import clock_text, pixels_text
from .terminal import print_input_error

if TYPE_CHECKING:
    from ..batch.job_plan import JobPlan
    from ..faces.detection.retinaface import Detector
    from ..pipeline.identity_models import IdentityModels
    from ..video.people import Person, VideoPeople

OPTIONS = ("min_duration", "join_people", "start", "end", "ranges", "interlaced")
"""The options of videos that `gpen detect` has."""
MAX_TIMES = 4  # appearances of a person that are printed in one line


def is_video(text: str) -> bool:
    """Whether an input is a local file with a video's suffix. A GIF is an image."""
    from ..images import formats
    from ..video.containers import INPUT_SUFFIXES

    path = Path(text)
    suffix = path.suffix.lower()
    return suffix in INPUT_SUFFIXES and suffix not in formats.INPUT_SUFFIXES and os.path.isfile(path)


def unique_videos(inputs: Sequence[str]) -> list[Path]:
    """Return the videos among the inputs, each once."""
    from ..batch.file_keys import same_file_key

    found: dict[str, Path] = {}
    for path in map(Path, filter(is_video, inputs)):
        found.setdefault(same_file_key(path), path)
    return list(found.values())


def list_people(
    args: argparse.Namespace,
    videos: Sequence[Path],
    load_detector: Callable[[], Detector],
    load_identity: Callable[[Detector], IdentityModels],
    options: RestoreOptions,
    images: JobPlan | None,
) -> Counter[type[BaseException]]:
    """Print the people of each video, and return the failed videos by their errors.

    With an output, write a page of the people, and the tracks for `gpen video`. Raises `OptionsError` if that would delete
    one of the `images`, which are listed later."""
    from ..video.check_video import probe_video

    video = VideoOptions.from_mapping(vars(args))
    folder = _output_folder(args)
    if folder is not None:
        _raise_if_same_page(videos, folder)
        if images is not None:
            for path in videos:
                raise_if_deleted(images, folder, _page_name(path))
    errors: Counter[type[BaseException]] = Counter()
    readable = []
    for path in videos:
        with _one_video(path, errors):
            probe_video(path, video)  # before anything is downloaded or loaded
            readable.append(path)
    if not readable:
        return errors
    detector = load_detector()
    identity = load_identity(detector)
    with progress_reporter(args) as reporter:
        for path in readable:
            with _one_video(path, errors):
                _list_video(path, detector, identity, options, video, folder, reporter)
    return errors


def _raise_if_same_page(videos: Sequence[Path], folder: Path) -> None:
    """Raise `OptionsError` if the page of a video would replace that of another one."""
    from ..batch.file_keys import same_file_key

    pages: dict[str, Path] = {}
    for path in videos:
        page = folder / f"{_page_name(path)}.html"
        other = pages.setdefault(same_file_key(page), path)
        if other is not path:
            raise OptionsError(f"{other} and {path} would both become {page}. List them into different folders.")


def _page_name(video: Path) -> str:
    return f"{video.name}.people"


@contextmanager
def _one_video(path: Path, errors: Counter[type[BaseException]]) -> Iterator[None]:
    """Print and count an error that other videos need not have."""
    try:
        yield
    except (InputError, OutputError, OutOfMemory) as error:
        errors[type(error)] += 1
        print_input_error(path, error)


def _list_video(
    path: Path,
    detector: Detector,
    identity: IdentityModels,
    options: RestoreOptions,
    video: VideoOptions,
    folder: Path | None,
    reporter: ProgressReporter,
) -> None:
    from ..video.people import find_people

    result = find_people(path, detector, options, video, tracks_folder=folder, progress=reporter, identity=identity)
    _print(path, result, reporter)
    if folder is not None:
        _write_page(path, folder, result, detector, options, reporter)
    for note in result.notes:
        reporter.note(f"{path}: {note}")


def _output_folder(args: argparse.Namespace) -> Path | None:
    if args.output is None:
        return None
    place = args.output.location
    if not isinstance(place, Path) or (exists(place) and not is_folder(place)):
        raise OptionsError(f"The output {place} is not a local folder. Choose a folder for the faces of a video.")
    return place


def _print(path: Path, result: VideoPeople, reporter: ProgressReporter) -> None:
    people, size = result.people, pixels_text(*result.analysis.size)
    frames = pluralize(result.analysis.frame_count, "frame")
    cuts = pluralize(len(result.analysis.cuts), "cut")
    reporter.write(f"{path}: {pluralize(len(people), 'person', 'people')} ({size}, {frames}, {cuts})", sys.stdout)
    for person in people:
        reason = f"  {person.reason}" if person.reason else ""
        size = f"{person.size:.0f} px"
        reporter.write(f"{person.number:4}  {_times(person)}  {size:>7}{reason}", sys.stdout)


def _times(person: Person) -> str:
    spans = [f"{clock_text(start)}-{clock_text(end)}" for start, end in person.times]
    more = f" and {len(spans) - MAX_TIMES} more" if len(spans) > MAX_TIMES else ""
    return ", ".join(spans[:MAX_TIMES]) + more


def _write_page(
    path: Path, folder: Path, result: VideoPeople, detector: Detector, options: RestoreOptions, reporter: ProgressReporter
) -> None:
    """Write the page of the people of a video, see `PeoplePage`."""
    from ..pipeline.photo_people import encode_thumbnail
    from ..video.containers import OUTPUT_FORMATS
    from .people_page import PeoplePage, PersonEntry, Place

    entries = [
        PersonEntry(
            person.number,
            pluralize(len(person.tracks), "appearance"),
            [encode_thumbnail(person.thumbnail)],
            [Place(f"{clock_text(start)}-{clock_text(end)}") for start, end in person.times],
            {"times": person.times, "tracks": [track.number for track in person.tracks], "reason": person.reason},
            person.reason,
        )
        for person in result.people
    ]
    count = pluralize(len(entries), "person", "people")
    suffix = path.suffix if path.suffix.lower() in OUTPUT_FORMATS else ".mp4"
    tracks = f"--faces {result.people[0].number} --tracks {shlex.quote(str(folder))}" if result.people else ""
    page = PeoplePage(
        folder,
        _page_name(path),
        f"{count} in {path.name}",
        entries,
        [("To restore one person:", f"gpen video {shlex.quote(str(path))} -o restored{suffix} {tracks}")] if tracks else [],
        [*map(as_sentence, result.notes)],
        {"video": str(path)},
    )
    for note in page.write(partial(detect_one, detector, options), reporter):
        reporter.note(note)
    reporter.summarize(f"{page.path}: {count}")
