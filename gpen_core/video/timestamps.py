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
from .containers import FORMATS, LONGEST_DURATION, create, failures, library
from .encoding import PICTURES, Encoding, new_stream, segment_shift
from .probe import Film
from .writer import SEGMENTS

SIDE = 256  # px: of the frames that are tried
SUGGESTED = (".mkv", ".mov", ".mp4")
REORDERED = 2  # frames that are decoded before the first is shown
REPEATED = 3  # times that each distance between frames is tried: short ones may vanish in a coarser clock


def check_times(film: Film, pts: NDArray[np.int64], target: Path, encoding: Encoding, folder: Path) -> None:
    """Writes stand-ins for the frames, with the timestamps `pts`, into files in `folder` that are deleted again.

    Raises `InputError` where the target's container refuses them, such as .mp4 for frames that are hours apart in a fine
    clock. Without this, the refusal would come once all frames are restored."""
    if encoding.encoder == PICTURES:
        return
    times = _condensed(pts)
    shifted = [time + segment_shift(film) for time in times]
    suffix = target.suffix.lower()
    longest = max((b - a for a, b in pairwise(times)), default=0)
    first, apart = (float(ticks * film.time_base) for ticks in (times[0], longest))
    told = f"The timestamps of {film.path} begin at {first:.6g} s and are up to {apart:.6g} s apart"
    if not any(_holds(film, shifted, name, encoding, folder) for name in SEGMENTS):
        raise InputError(
            f"{told}, which no intermediate file for {encoding.encoder} can hold. Choose the codec h264 or ffv1."
        )
    if not _holds(film, times, FORMATS[suffix], encoding, folder):
        able = [one for one in SUGGESTED if _holds(film, times, FORMATS[one], encoding, folder)]
        advice = f"Name the output {able[0]}" if able else "Give the video another frame rate first"
        raise InputError(f"{told}, which a {suffix} file cannot hold in units of {film.time_base} s. {advice}.")


def _condensed(pts: NDArray[np.int64]) -> list[int]:
    """Timestamps with each distance between frames a few times, not as often as there are frames."""
    gaps = np.unique(np.diff(pts)).repeat(REPEATED)
    return list(accumulate(gaps.tolist(), initial=int(pts[0])))


def _holds(film: Film, times: Sequence[int], format_: str, encoding: Encoding, folder: Path) -> bool:
    path = folder / temp_name(f"times.{format_}")
    try:
        with contextlib.closing(create(path, format_, film.time_base)) as container:
            packet = _stand_in(container, film, encoding)
            if packet is None:
                return encoding.encoder in container.supported_codecs  # writing the video will tell the rest
            data, stream = bytes(packet), packet.stream
            delay = REORDERED if stream.codec_context.has_b_frames else 0
            before = [times[0] - n * film.frame_ticks for n in range(delay, 0, -1)]
            until = [*times[1:], times[-1] + film.frame_ticks]
            for pts, dts, end in zip(times, [*before, *times], until):
                container.mux(_packet(data, stream, film, pts, dts, end - pts))
    except failures():
        return False
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return True


def _stand_in(container: Any, film: Film, encoding: Encoding) -> Any:
    """One encoded frame, small and black; None where the encoder does not make it."""
    width, height = (min(side, SIDE) for side in encoding.size)
    small = replace(encoding, size=(width, height))
    try:
        stream = new_stream(container, film, small)
        frame = library().VideoFrame(width, height, encoding.format)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.time_base = 0, stream.codec_context.time_base
        return next(iter([*stream.encode(frame), *stream.encode(None)]), None)
    except failures():
        return None


def _packet(data: bytes, stream: Any, film: Film, pts: int, dts: int, duration: int) -> Any:
    packet = library().Packet(data)
    packet.stream, packet.time_base = stream, film.time_base
    packet.pts, packet.dts, packet.duration = pts, dts, min(duration, LONGEST_DURATION)
    packet.is_keyframe = True
    return packet
