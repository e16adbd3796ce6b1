"""The part of `gpen detect` that lists the people of videos."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, OptionsError, OutOfMemory, OutputError
from ..options import RestoreOptions, VideoOptions
from ..progress import pluralize
from .progress_display import ProgressReporter, progress_reporter
from .report_text import clock_text, pixels_text
from .terminal import print_input_error

if TYPE_CHECKING:
    from ..faces.detection.retinaface import Detector
    from ..pipeline.identity_models import IdentityModels
    from ..video.people import Person, VideoPeople

OPTIONS = ("min_duration", "join_people", "start", "end", "ranges", "interlaced")
"""The options of videos that `gpen detect` has."""
MAX_TIMES = 4  # of a person in one line


def is_video(text: str) -> bool:
    """Whether an input is a local file with a video's suffix."""
    from ..video.containers import OUTPUT_FORMATS

    path = Path(text)
    return path.suffix.lower() in OUTPUT_FORMATS and path.is_file()


def list_people(
    args: argparse.Namespace,
    videos: Sequence[str],
    load_detector: Callable[[], Detector],
    load_identity: Callable[[Detector], IdentityModels],
    options: RestoreOptions,
) -> Counter[type[BaseException]]:
    """Print the people of each video, and return the failed videos by their errors.

    With an output, write a sheet of the faces, and the tracks for `gpen video`."""
    from ..video.check_video import probe_video

    video = VideoOptions.from_mapping(vars(args))
    folder = _output_folder(args)
    errors: Counter[type[BaseException]] = Counter()
    readable = []
    for path in map(Path, videos):
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
    if folder is not None and result.people:
        _write_sheet(folder / f"{path.name}.jpg", result, reporter)
    for note in result.notes:
        reporter.note(f"{path}: {note}")


def _output_folder(args: argparse.Namespace) -> Path | None:
    if args.output is None:
        return None
    place = args.output.location
    if not isinstance(place, Path) or (place.exists() and not place.is_dir()):
        raise OptionsError(f"The output {place} is not a local folder. Choose a folder for the faces of a video.")
    return place


def _print(path: Path, result: VideoPeople, reporter: ProgressReporter) -> None:
    people, size = result.people, pixels_text(*result.analysis.size)
    word = "1 person" if len(people) == 1 else f"{len(people):,} people"
    frames = pluralize(result.analysis.frame_count, "frame")
    reporter.write(f"{path}: {word} ({size}, {frames}, {pluralize(len(result.analysis.cuts), 'cut')})", sys.stdout)
    for person in people:
        reason = f"  {person.reason}" if person.reason else ""
        size = f"{person.size:.0f} px"
        reporter.write(f"{person.number:4}  {_times(person)}  {size:>7}{reason}", sys.stdout)


def _times(person: Person) -> str:
    spans = [f"{clock_text(start)}-{clock_text(end)}" for start, end in person.times]
    more = f" and {len(spans) - MAX_TIMES} more" if len(spans) > MAX_TIMES else ""
    return ", ".join(spans[:MAX_TIMES]) + more


def _write_sheet(path: Path, result: VideoPeople, reporter: ProgressReporter) -> None:
    from ..files.atomic_write import write_bytes
    from ..images import codecs
    from ..images.image import from_array
    from ..images.metadata import Metadata
    from ..tools.contact_sheet import caption, grid

    cells = []
    for person in result.people:
        start, end = person.times[0][0], person.times[-1][1]
        text = f"{person.number}\n{clock_text(start)}-{clock_text(end)}"
        cells.append((caption(text, 2 * 26, person.thumbnail.shape[1]), person.thumbnail))
    sheet = codecs.EncodedImage(from_array(grid(cells)), Metadata(), "JPEG", lossy=True)
    write_bytes(path, codecs.encode(sheet, "JPEG"))
    reporter.summarize(f"{path}: {pluralize(len(cells), 'face')}")
