"""Whether a container can hold a video's timestamps, tried before the frames are restored."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files.stale_temp import temp_name
from .containers import MAX_PACKET_DURATION, OUTPUT_FORMATS, av_errors, import_av, open_output
from .encoding import IMAGE_SEQUENCE, Encoding, new_stream, segment_pts_offset
from .probe import VideoInfo
from .writer import SEGMENT_FORMATS

DUMMY_SIZE = 256  # px: of the frames that are tried
SUGGESTED_SUFFIXES = (".mkv", ".mov", ".mp4")
REORDER_DELAY = 2  # frames that are decoded before the first is shown
GAP_REPEATS = 3  # times that each distance between frames is tried: short ones may vanish in a coarser clock


def check_timestamps(info: VideoInfo, pts: NDArray[np.int64], target: Path, encoding: Encoding, folder: Path) -> None:
    """Writes stand-ins for the frames, with the timestamps `pts`, into files in `folder` that are deleted again.

    Raises `InputError` where the target's container refuses them, such as .mp4 for frames that are hours apart in a fine
    clock. Without this, the refusal would come once all frames are restored."""
    if encoding.encoder == IMAGE_SEQUENCE:
        return
    times = _condense(pts)
    shifted = [time + segment_pts_offset(info) for time in times]
    suffix = target.suffix.lower()
    longest = max((b - a for a, b in pairwise(times)), default=0)
    first, longest_gap = (float(ticks * info.time_base) for ticks in (times[0], longest))
    description = f"The timestamps of {info.path} begin at {first:.6g} s and are up to {longest_gap:.6g} s apart"
    if not any(_can_hold(info, shifted, name, encoding, folder) for name in SEGMENT_FORMATS):
        raise InputError(
            f"{description}, which no intermediate file for {encoding.encoder} can hold. Choose the codec h264 or ffv1."
        )
    if not _can_hold(info, times, OUTPUT_FORMATS[suffix], encoding, folder):
        supported = [one for one in SUGGESTED_SUFFIXES if _can_hold(info, times, OUTPUT_FORMATS[one], encoding, folder)]
        advice = f"Name the output {supported[0]}" if supported else "Give the video another frame rate first"
        raise InputError(f"{description}, which a {suffix} file cannot hold in units of {info.time_base} s. {advice}.")


def _condense(pts: NDArray[np.int64]) -> list[int]:
    """Timestamps with each distance between frames a few times, not as often as there are frames."""
    gaps = np.unique(np.diff(pts)).repeat(GAP_REPEATS)
    return list(accumulate(gaps.tolist(), initial=int(pts[0])))


def _can_hold(info: VideoInfo, timestamps: Sequence[int], format_: str, encoding: Encoding, folder: Path) -> bool:
    path = folder / temp_name(f"times.{format_}")
    try:
        with contextlib.closing(open_output(path, format_, info.time_base)) as container:
            packet = _dummy_packet(container, info, encoding)
            if packet is None:
                return encoding.encoder in container.supported_codecs  # writing the video will tell the rest
            data, stream = bytes(packet), packet.stream
            delay = REORDER_DELAY if stream.codec_context.has_b_frames else 0
            before = [timestamps[0] - n * info.frame_ticks for n in range(delay, 0, -1)]
            until = [*timestamps[1:], timestamps[-1] + info.frame_ticks]
            for pts, dts, end in zip(timestamps, [*before, *timestamps], until):
                container.mux(_packet(data, stream, info, pts, dts, end - pts))
    except av_errors():
        return False
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return True


def _dummy_packet(container: Any, info: VideoInfo, encoding: Encoding) -> Any:
    """One encoded frame, small and black; None where the encoder does not make it."""
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


def _packet(data: bytes, stream: Any, info: VideoInfo, pts: int, dts: int, duration: int) -> Any:
    packet = import_av().Packet(data)
    packet.stream, packet.time_base = stream, info.time_base
    packet.pts, packet.dts, packet.duration = pts, dts, min(duration, MAX_PACKET_DURATION)
    packet.is_keyframe = True
    return packet
