"""Writes frames to a folder. It replaces no existing file, and a new folder appears only when it is complete."""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import OutputError, summarize_problems
from ..files.atomic_write import atomic_write
from ..files.path_checks import is_folder
from ..progress import Progress, ProgressEvent
from .probe import VideoInfo, frame_files

STAGING_NAME = "frames.part"
NUMBERED_NAME = re.compile(r"(\d{6,})\.png", re.IGNORECASE)


def frame_name(number: int, name: str = "") -> str:
    """Return the file name of an output frame: that of the input frame, or its number counted from 1."""
    return name or f"{number + 1:06d}.png"


def staging_folder(folder: Path) -> Path:
    """Return the folder in `folder` that collects the frames of all segments."""
    return folder / STAGING_NAME


def raise_if_frames_exist(info: VideoInfo, target: Path, start: float | None = None, end: float | None = None) -> None:
    """Raise `OutputError` if the folder `target` already contains a name that a frame of the video will get."""
    if not is_folder(target):
        return
    if info.is_folder:
        first = 0 if start is None else max(0, info.pts_at(start))
        last = None if end is None else info.pts_at(end)
        existing = [path.name for path in frame_files(info.path)[first:last] if os.path.lexists(target / path.name)]
    else:
        try:
            matches = filter(None, map(NUMBERED_NAME.fullmatch, sorted(path.name for path in target.iterdir())))
        except OSError as error:
            raise OutputError(f"{target} cannot be read: {error.strerror or error}.") from error
        existing = [match[0] for match in matches if 1 <= int(match[1]) <= (info.frame_count or int(match[1]))]
    _raise_if_any(target, existing)


def move_frames(segments: Sequence[Path], target: Path, progress: Progress) -> None:
    """Move the frames of all segments, which are folders in one folder, to the folder `target`.

    A new `target` gets its name when it is complete. Frames are added to an existing one, and removed again if that fails.
    After a kill, the next call continues. Raises `OutputError`, also if a file of that name exists."""
    try:
        staged = staging_folder(segments[0].parent)
        _stage(segments, staged)
        if os.path.lexists(target):
            _add_frames(staged, Path(os.path.realpath(target)), progress)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(staged, target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}.") from error


def _stage(segments: Sequence[Path], staged: Path) -> None:
    staged.mkdir(exist_ok=True)
    for segment in segments:
        if segment.is_dir():  # otherwise, an earlier call moved all of it
            for path in segment.iterdir():
                os.replace(path, staged / path.name)
            segment.rmdir()


def _add_frames(staged: Path, target: Path, progress: Progress) -> None:
    """Add the staged frames to `target`. They also stay staged until the work folder is deleted, so none can be lost."""
    frames = sorted(staged.iterdir())
    existing = [path for path in frames if os.path.lexists(target / path.name)]
    _raise_if_any(target, [path.name for path in existing if not _is_same(path, target / path.name)])
    missing = [path for path in frames if path not in set(existing)]
    with _rollback() as added:
        for done, path in enumerate(missing, len(existing) + 1):
            _link_or_copy(path, target / path.name)
            added.append(target / path.name)
            progress(ProgressEvent("join", done, len(frames), "frame", "Moving the frames"))


@contextlib.contextmanager
def _rollback() -> Iterator[list[Path]]:
    added: list[Path] = []
    try:
        yield added
    except BaseException:
        for path in added:
            with contextlib.suppress(OSError):
                path.unlink()
        raise


def _is_same(path: Path, other: Path) -> bool:
    """Whether an earlier call that was killed added the frame."""
    return other.is_file() and not other.is_symlink() and filecmp.cmp(path, other, shallow=False)


def _link_or_copy(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except FileExistsError:
        _raise_if_any(target.parent, [target.name])
    except OSError:  # another file system, or one without hard links
        with atomic_write(target) as part:
            shutil.copyfile(path, part)


def _raise_if_any(target: Path, existing: list[str]) -> None:
    if existing:
        raise OutputError(
            f"{target} already contains {summarize_problems(existing)}. Choose a new or empty folder for the frames."
        )
