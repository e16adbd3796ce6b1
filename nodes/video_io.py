"""Conversion between ComfyUI's VIDEO and the files that gpen_core reads and writes."""

from __future__ import annotations

import inspect
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths

from ..gpen_core import MaskClip, OutputError
from .comfy import Input, InputImpl

CRF = 12.0  # for H.264 if ComfyUI has to encode the video first: visually lossless
SOURCE_STEM = "source"


@dataclass(frozen=True)
class VideoSource:
    """The file of a VIDEO and the part of it that the VIDEO uses."""

    path: Path
    start: float | None = None
    """Seconds."""
    end: float | None = None


@contextmanager
def temp_folder() -> Iterator[Path]:
    """Create a folder in ComfyUI's temp folder. If the body fails or is interrupted, the folder is deleted. Otherwise
    ComfyUI deletes it when it stops or starts. Raises `OutputError`."""
    temp = Path(folder_paths.get_temp_directory())
    try:
        temp.mkdir(parents=True, exist_ok=True)
        path = Path(tempfile.mkdtemp(prefix="gpen_", dir=temp))
    except OSError as error:
        raise OutputError(f"Cannot write to ComfyUI's temp folder {temp}: {error.strerror or error}.") from error
    try:
        yield path
    except BaseException:
        delete_folder(path)
        raise


def delete_folder(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def get_source(video: Any, target_dir: Path) -> VideoSource:
    """Return the file of a VIDEO. A VIDEO without a file (in memory, made of images, or edited after loading) is written
    into `target_dir` first. Raises `OutputError` and the errors of ComfyUI's own saving."""
    if _has_pending_edits(video) or not _has_file(video):
        return VideoSource(_save(video, target_dir))
    stream = video.get_stream_source()
    start, seconds = _trim_window(video)
    path = _write_stream(stream, video, target_dir) if isinstance(stream, io.BytesIO) else Path(os.fspath(stream))
    return VideoSource(path, start or None, start + seconds if seconds else None)


@contextmanager
def delete_after_use(source: VideoSource, target_dir: Path) -> Iterator[VideoSource]:
    """Delete the file at the end if `get_source` wrote it."""
    try:
        yield source
    finally:
        if source.path.parent == target_dir:
            with suppress(OSError):
                source.path.unlink()


@contextmanager
def mask_clip(video: Any, work_folder: Path) -> Iterator[MaskClip | None]:
    """Return the mask video of a VIDEO, or None. A copy that had to be written is deleted at the end."""
    if video is None:
        yield None
        return
    target_dir = work_folder / "mask"
    target_dir.mkdir()
    try:
        source = get_source(video, target_dir)
        yield MaskClip(source.path, source.start, source.end)
    finally:
        delete_folder(target_dir)


def video_from_file(path: Path) -> Any:
    """Return a VIDEO of the file."""
    return InputImpl.VideoFromFile(str(path))


def _has_file(video: Any) -> bool:
    """ComfyUI's default `get_stream_source` keeps the whole video in memory and ignores its container (0.3.64)."""
    own = getattr(type(video), "get_stream_source", None)
    return own is not None and own is not getattr(Input.Video, "get_stream_source", None)


def _has_pending_edits(video: Any) -> bool:
    """Recent versions of ComfyUI crop and resize a video only when it is read or saved."""
    return bool(video.has_pending_frame_edits()) if hasattr(video, "has_pending_frame_edits") else False


def _trim_window(video: Any) -> tuple[float, float]:
    """Return start and length in seconds; length 0 means up to the end. Recent versions of ComfyUI trim this way."""
    start, seconds = video.get_active_trim_window() if hasattr(video, "get_active_trim_window") else (0.0, 0.0)
    return float(start), float(seconds)


def _save(video: Any, target_dir: Path) -> Path:
    path = target_dir / f"{SOURCE_STEM}.mp4"
    known = inspect.signature(video.save_to).parameters
    video.save_to(str(path), **({"crf": CRF} if "crf" in known else {}))
    return path


def _write_stream(stream: io.BytesIO, video: Any, target_dir: Path) -> Path:
    names = video.get_container_format() if hasattr(video, "get_container_format") else ""
    path = target_dir / f"{SOURCE_STEM}{'.mkv' if 'matroska' in names else '.mp4'}"
    try:
        path.write_bytes(stream.getbuffer())
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error
    return path
