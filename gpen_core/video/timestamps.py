"""Tests whether the output's container can hold a video's timestamps, before the frames are restored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, OutputError
from ..files.stale_temp import temp_name
from .containers import DISK_FULL, MAX_PACKET_DURATION, av_errors, import_av, open_input, open_output
from .encoding import IMAGE_SEQUENCE, Encoding, new_stream, segment_pts_offset
from .mux import concatenate
from .probe import VideoInfo
from .reader import FrameReader
from .writer import SEGMENT_FORMATS

DUMMY_SIZE = 256  # px, of the test frames
SUGGESTED_SUFFIXES = (".mkv", ".mov", ".mp4")
GAP_REPEATS = 3  # repetitions of each distance between frames; short ones may vanish in a coarser clock


def check_timestamps(reader: FrameReader, pts: NDArray[np.int64], target: Path, encoding: Encoding, folder: Path) -> None:
    """Write dummy frames with the timestamps `pts` in the way of the output, and read their timestamps back.

    `reader`: that of the video. The test files are in `folder` and are deleted again.
    Raises `InputError` if the target's container refuses or changes the timestamps. Examples are .mp4 for frames that are
    hours apart in a fine clock, and .ts, whose clock wraps after a day. Raises `OutputError` if the disk is full. Without
    this check, the error would appear only after all frames are restored, or never."""
    if encoding.encoder == IMAGE_SEQUENCE:
        return
    info, times = reader.info, _condense(pts)
    suffix = target.suffix.lower()
    longest = max((b - a for a, b in pairwise(times)), default=0)
    first, longest_gap = (float(ticks * info.time_base) for ticks in (times[0], longest))
    description = f"The timestamps of {info.path} begin at {first:.6g} s and are up to {longest_gap:.6g} s apart"
    with _temp_file(folder, ".part") as segment:
        is_made = _write_segment(segment, info, times, encoding)
        if is_made is None:
            return  # the encoder gave no dummy frame, so this cannot be tested
        if not is_made:
            raise InputError(
                f"{description}, which no intermediate file of {encoding.encoder} can hold. Choose the codec h264 or ffv1."
            )

        def can_hold(other: str) -> bool:
            with _temp_file(folder, other) as path:
                return _is_kept(segment, reader, times, path, encoding)

        if not can_hold(suffix):
            supported = [one for one in SUGGESTED_SUFFIXES if can_hold(one)]
            advice = f"Write a {supported[0]} file" if supported else "Change the frame rate of the video first"
            raise InputError(f"{description}, which a {suffix} file cannot hold in units of {info.time_base} s. {advice}.")


@contextlib.contextmanager
def _temp_file(folder: Path, suffix: str) -> Iterator[Path]:
    path = folder / f"{temp_name('times')}{suffix}"
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _condense(pts: NDArray[np.int64]) -> list[int]:
    """Return timestamps that have each distance between frames only a few times."""
    gaps = np.unique(np.diff(pts)).repeat(GAP_REPEATS)
    return list(accumulate(gaps.tolist(), initial=int(pts[0])))


def _write_segment(path: Path, info: VideoInfo, times: Sequence[int], encoding: Encoding) -> bool | None:
    """Whether an intermediate file holds the timestamps exactly; None if the encoder gives no dummy frame."""
    shifted = [time + segment_pts_offset(info) for time in times]
    is_made: bool | None = None
    for format_ in SEGMENT_FORMATS:
        try:
            with contextlib.closing(open_output(path, format_, info.time_base, is_segment=True)) as container:
                if encoding.encoder not in container.supported_codecs:
                    continue
                packet = _dummy_packet(container, info, encoding)
                if packet is None:
                    continue
                is_made = False
                data, stream = bytes(packet), packet.stream
                for pts, end in zip(shifted, [*shifted[1:], shifted[-1] + info.frame_ticks]):
                    container.mux(_packet(data, stream, info, pts, end - pts))
            if _read_seconds(path)[0] == [time * info.time_base for time in shifted]:
                return True
        except _errors() as error:
            _raise_if_disk_full(error, path)
    return is_made


def _is_kept(segment: Path, reader: FrameReader, times: Sequence[int], path: Path, encoding: Encoding) -> bool:
    """Whether the output keeps the distances to the last timestamp, to a tick of its clock.

    The first frame of AVI is ignored, because AVI always shows it at 0."""
    info = reader.info
    try:
        only_video = replace(encoding, copied_streams=())
        concatenate([segment], reader, path, only_video, last_ticks=info.frame_ticks)
        seconds, tick = _read_seconds(path)
    except _errors() as error:
        _raise_if_disk_full(error, path)
        return False
    if len(seconds) != len(times):
        return False
    pairs = list(zip(seconds, times))[1 if path.suffix == ".avi" else 0 :]
    return all(abs((seconds[-1] - one) - (times[-1] - ticks) * info.time_base) <= tick for one, ticks in pairs)


def _errors() -> tuple[type[BaseException], ...]:
    return (*av_errors(), InputError, OutputError)


def _raise_if_disk_full(error: BaseException, path: Path) -> None:
    if {getattr(one, "errno", None) for one in (error, error.__cause__)} & DISK_FULL:
        raise OutputError(
            f"Nothing can be written to {path.parent}, because the disk is full. Free some space and run again."
        )


def _read_seconds(path: Path) -> tuple[list[Fraction], Fraction]:
    """Return the sorted presentation times of a file's frames in seconds, and the tick of its clock."""
    with open_input(path) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        is_avi = container.format.name == "avi"  # has no pts; FFmpeg guesses them
        times = [packet.dts if is_avi or packet.pts is None else packet.pts for packet in packets]
        base = Fraction(stream.time_base.numerator, stream.time_base.denominator)
    return sorted(time * base for time in times), base


def _dummy_packet(container: Any, info: VideoInfo, encoding: Encoding) -> Any:
    """Encode one small black frame. None if the encoder fails."""
    width, height = (min(side, DUMMY_SIZE) for side in encoding.size)
    small = replace(encoding, size=(width, height))
    try:
        stream = new_stream(container, info, small)
        frame = import_av().VideoFrame(width, height, encoding.format)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.time_base = 0, stream.codec_context.time_base
        return next(iter([*stream.encode(frame), *stream.encode(None)]), None)
    except av_errors():
        return None


def _packet(data: bytes, stream: Any, info: VideoInfo, pts: int, duration: int) -> Any:
    packet = import_av().Packet(data)
    packet.stream, packet.time_base = stream, info.time_base
    packet.pts, packet.dts, packet.duration = pts, pts, min(duration, MAX_PACKET_DURATION)
    packet.is_keyframe = True
    return packet
