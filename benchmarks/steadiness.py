"""How steady restored faces are: what is left of flicker when frames are warped back along the path that is known.

    python benchmarks/steadiness.py        (or: python benchmarks/steadiness.py --frames 40 --paths pan,shake --radius 3)

One photograph (scikit-image's astronaut) moves along each path (tests/films.py), clean, with noise, and through H.264 at two
qualities. Every frame's face is cut out, restored by a stand-in for the network, filtered or not, and pasted back:

    each      by landmarks that jitter (1.5 % of the eyes' distance, new in every frame), frame by frame
    smoothed  by those landmarks smoothed over time along the known path (a Gaussian of 5 frames)
    steady    so, and the restored crops filtered over time (gpen_core/video/steady.py)

`pattern` adds a fixed pattern in the crop's coordinates: alignment's jitter. `sharpen` sharpens, noise as well: flicker.
Columns: standard deviation over time of the frames warped back (at their own density), over the face, in levels of 255;
`film` is the film's before anything; `ratio` steady over each; `next` the same ratio of the differences of following frames;
`sharp` the gradient of the mean over time, steady over smoothed (1: as sharp). `--plot`: how far each frame is from the
mean, for the shaken film with noise. Seeded; one process.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import films  # noqa: E402

from gpen_core.demo.pictures import astronaut  # noqa: E402
from gpen_core.faces.align import Alignment, align, extract  # noqa: E402
from gpen_core.faces.blend import Canvas  # noqa: E402
from gpen_core.pictures.picture import FloatImage, as_picture  # noqa: E402
from gpen_core.video.steady import AMOUNT, GUIDE, RADIUS, TrackFilter  # noqa: E402

RGB8 = NDArray[np.uint8]
Points = NDArray[np.float64]
# Five points of the astronaut's face, as RetinaFace finds them.
LANDMARKS = np.array([[205.0, 112.0], [243.0, 110.0], [225.0, 134.0], [208.0, 152.0], [243.0, 150.0]])
EYES = 38.0  # px between them
SIZE = (384, 384)  # of a frame
SHOWN = 190  # px of the photograph across it
FACE = ((224, 126), (40, 52))  # an ellipse in the photograph: middle and half axes
CROP = 512
JITTER, SMOOTHED = 0.015 * EYES, 5.0  # px of the photograph; frames
DENSITY = 2  # pixels of a frame per pixel of the photograph
DRAWN = ("shake", "noise")  # the film of the plot
HOW = ("clean", "noise", "crf 23", "crf 33")
NOISE = 6.0
WAYS = ("each", "smoothed", "steady")


def shown(path: str, how: str, count: int) -> tuple[list[RGB8], list[Points]]:
    noise = NOISE if how == "noise" else 0.0
    film = films.film(astronaut(), path, count, SIZE, noise, seed=5, middle=FACE[0], width=SHOWN)
    frames, matrices = films.pictures(film)
    if how.startswith("crf"):
        frames = films.encoded(frames, int(how[4:]))
    return frames, matrices


def landmarks(matrices: Sequence[Points], sigma: float) -> list[Points]:
    """In each frame: those of the photograph with jitter, smoothed over `sigma` frames, moved along the path."""
    noise = np.random.default_rng(11).normal(0, JITTER, (len(matrices), 5, 2))
    times = np.arange(len(matrices))
    if sigma:
        weight = np.exp(-0.5 * ((times[:, None] - times[None, :]) / sigma) ** 2)
        noise = np.einsum("ts,sij->tij", weight / weight.sum(1, keepdims=True), noise)
    return [films.moved(LANDMARKS + one, matrix) for one, matrix in zip(noise, matrices)]


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


def pasted(
    frames: Sequence[RGB8], points: Sequence[Points], network: Callable[[FloatImage], FloatImage], track: TrackFilter
) -> Iterator[RGB8]:
    """The frames with their faces restored and filtered."""
    mask = soft_mask()
    places: list[Alignment] = []

    def paste(number: int, layers: Sequence[FloatImage]) -> RGB8:
        canvas = Canvas(as_picture(frames[number]))
        canvas.paste(layers[0], mask, places[number])
        return np.asarray(canvas.result.pixels, np.uint8)

    for number, (frame, five) in enumerate(zip(frames, points)):
        place = align(five, CROP)
        assert isinstance(place, Alignment)
        places.append(place)
        crop = extract(as_picture(frame), place)
        track.add(number, cv2.resize(crop, (GUIDE, GUIDE), interpolation=cv2.INTER_AREA), [network(crop)])
        yield from (paste(one.number, one.layers) for one in track.ready(number))
    yield from (paste(one.number, one.layers) for one in track.ready())


def soft_mask() -> FloatImage:
    y, x = np.mgrid[:CROP, :CROP] / (CROP - 1) * 2 - 1
    return np.asarray(np.clip((0.95 - np.maximum(np.abs(x), np.abs(y))) / 0.1, 0, 1), np.float32)


def region() -> NDArray[np.bool_]:
    """[512 * DENSITY, 512 * DENSITY]: the face in the photograph."""
    (x0, y0), (a, b) = FACE
    y, x = (np.mgrid[: 512 * DENSITY, : 512 * DENSITY] + 0.5) / DENSITY - 0.5
    return np.asarray(np.hypot((x - x0) / a, (y - y0) / b) < 1)


@dataclass(frozen=True)
class Judged:
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


def judged(frames: Sequence[RGB8], matrices: Sequence[Points]) -> Judged:
    inside = region()
    rows, columns = (slice(where.min() - 2, where.max() + 3) for where in np.nonzero(inside))
    inside = inside[rows, columns]
    back = np.stack([one[rows, columns] for one in films.undone(frames, matrices, (512, 512), DENSITY)])
    mean = back.mean(0)
    off = np.sqrt(((back - mean)[:, inside] ** 2).mean((1, 2)))
    following = np.sqrt((np.diff(back, axis=0)[:, inside] ** 2).mean())
    steep = np.hypot(cv2.Sobel(mean, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(mean, cv2.CV_32F, 0, 1, scale=1 / 8))
    return Judged(off, float(following), float(steep[inside].mean()))


def compared(path: str, how: str, name: str, options: argparse.Namespace) -> dict[str, Judged]:
    """By way, and the film itself."""
    frames, matrices = shown(path, how, options.frames)
    out = {"film": judged(frames, matrices)}
    for way in WAYS:
        track = TrackFilter(options.amount if way == "steady" else 0.0, options.radius)
        points = landmarks(matrices, 0.0 if way == "each" else SMOOTHED)
        out[way] = judged(list(pasted(frames, points, NETWORKS[name], track)), matrices)
    return out


def line(out: dict[str, Judged]) -> str:
    each, smoothed, steady = (out[way] for way in WAYS)
    figures = "".join(f"{one.deviation:10.2f}" for one in out.values())
    ratios = steady.deviation / each.deviation, steady.following / each.following, steady.steepness / smoothed.steepness
    return figures + "".join(f"{ratio:8.3f}" for ratio in ratios)


def draw(drawn: dict[str, dict[str, Judged]], path: Path) -> None:
    """One panel for each network: its frames' deviations from their mean over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = {"each": "frame by frame", "smoothed": "landmarks smoothed", "steady": "and crops filtered (--steady)"}
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
    parser.add_argument("--paths", default=",".join(films.PATHS))
    parser.add_argument("--how", default=",".join(HOW))
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--amount", type=float, default=AMOUNT)
    parser.add_argument("--radius", type=int, default=RADIUS)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    heads = "".join(f"{way:>10}" for way in ("film", *WAYS)) + "".join(f"{head:>8}" for head in ("ratio", "next", "sharp"))
    print(f"{'network':9}{'path':10}{'film':8}{heads}")
    drawn = {}
    for name, path, how in itertools.product(
        *(given.split(",") for given in (options.networks, options.paths, options.how))
    ):
        out = compared(path, how, name, options)
        print(f"{name:9}{path:10}{how:8}{line(out)}", flush=True)
        if (path, how) == DRAWN:
            drawn[name] = out
    if options.plot and drawn:
        draw(drawn, options.plot)


if __name__ == "__main__":
    main()
