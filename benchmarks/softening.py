"""Detail and flicker that the temporal filter of videos removes, on your own clips.

    python benchmarks/softening.py clip.mp4@1:121,107,405,462 other.mp4@0:300,90,390,195

Each argument is a clip, the second where a face is shown, and the face's box x0,y0,x1,y1 (px) in that frame. The face is
tracked from there for `--frames` frames. Its crops pass through a synthetic network and through the filter of `gpen video`.

Detail is what a Gaussian of 1.4 px removes from the network's crop, at the resolution of the filter. `fine` is what a
Gaussian of 0.7 px removes, `mid` the rest. A frame consists of detail and noise. A frame that the filter does not use for
this one, 4 frames away and warped along the flow, has the same detail with independent noise. So the covariance of the two
contains detail alone. Columns:

    kept      coherent detail that the filter keeps: the covariance of the filtered frame with the warped one, relative to
              that of the unfiltered frame. It is a share of the amplitude. `fine` and `mid` are its bands.
    all       the same without the warped frame: share of all detail, including noise and compression.
    noisy     coherent detail kept if the frames get noise of 6 levels: the covariance with the network's result without
              noise.
    noise     for the same noisy frames: flicker that the noise causes, filtered / unfiltered. It is the root mean square
              difference of consecutive frames, after subtracting the result without noise, along its flow.
    flicker   all flicker of the noisy frames, filtered / unfiltered: root mean square difference of consecutive frames along
              the flow of the frames without noise. It includes errors of that flow and changes of the face.
    floor     the same for unfiltered frames without noise: flicker that is not caused by the noise.
    ms        processor time of the filter per frame.

The flow of the measurement has the crop's full resolution, so errors of the filter's own flow count as losses. Everything
is measured in the ellipse of the face."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from gpen_core.faces.align import Alignment, Matrix, crop_face, ellipse_radius, full_square, invert_affine  # noqa: E402
from gpen_core.images.image import FloatImage, ImageData  # noqa: E402
from gpen_core.video.face_motion import to_gray, track_motion, transform_points  # noqa: E402
from gpen_core.video.flow import warp_by_flow  # noqa: E402
from gpen_core.video.temporal_filter import DEFAULT_AMOUNT, GUIDE_SIZE, RADIUS, TrackFilter  # noqa: E402

RGB8 = NDArray[np.uint8]
CROP = 512  # px: the side of the network that is stood in for
MARGIN = 1.6  # side of the crop, relative to the box
SIGMAS = (0.7, 1.4)  # px
NOISE = 6.0  # levels of 255
FACE = ((0.5, 0.5), (0.3, 0.36))  # an ellipse in the crop: center and half axes


@dataclass(frozen=True)
class Clip:
    """A clip, the time (s) and the box of a face in it."""

    path: Path
    start: float
    box: tuple[float, float, float, float]

    @classmethod
    def parse(cls, text: str) -> Clip:
        path, place = text.rsplit("@", 1)
        start, box = place.split(":")
        x0, y0, x1, y1 = (float(part) for part in box.split(","))
        return cls(Path(path), float(start), (x0, y0, x1, y1))


def read_frames(path: Path, start: float, count: int) -> list[RGB8]:
    import av

    frames: list[RGB8] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= start - 1e-6:
                frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == count:
                break
    return frames


def face_alignments(frames: Sequence[RGB8], box: tuple[float, float, float, float]) -> list[Alignment]:
    """The crop around the face in each frame."""
    side = MARGIN * max(box[2] - box[0], box[3] - box[1])
    x0, y0 = (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2
    matrix: Matrix = full_square(1, 1).matrix  # of the first frame to this one
    square = full_square(round(side), CROP).matrix @ np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]])
    out, before = [], None
    for number, frame in enumerate(frames):
        gray = to_gray(ImageData(frame))
        if before is not None:
            corners = transform_points(matrix, np.array([[box[0], box[1]], [box[2], box[3]]]))
            (left, top), (right, bottom) = corners.min(0), corners.max(0)
            motion = track_motion(before, gray, (left, top, right, bottom))
            if motion is None:
                raise SystemExit(f"The face is lost after {number} frames.")
            matrix = (np.vstack((motion.matrix, [0, 0, 1])) @ np.vstack((matrix, [0, 0, 1])))[:2]
        before = gray
        to_crop = square @ np.vstack((invert_affine(matrix), [0, 0, 1]))
        out.append(Alignment(to_crop, invert_affine(to_crop), CROP))
    return out


def downscale(crop: FloatImage, side: int) -> FloatImage:
    return crop if side == len(crop) else np.asarray(cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA))


def sharpen(crop: FloatImage) -> FloatImage:
    return np.asarray(np.clip(crop + 1.5 * (crop - cv2.GaussianBlur(crop, (0, 0), 2)), 0, 1), np.float32)


NETWORKS: dict[str, Callable[[FloatImage], FloatImage]] = {"none": lambda crop: crop, "sharpen": sharpen}


def filtered(guides: Sequence[FloatImage], crops: Sequence[FloatImage], amount: float) -> tuple[list[FloatImage], float]:
    """Filtered crops, and seconds per frame."""
    track = TrackFilter(amount, RADIUS)
    out = []
    start = time.process_time()
    for number, (guide, crop) in enumerate(zip(guides, crops)):
        track.add(number, guide, [crop])
        out += track.pop_ready(number)
    out += track.pop_ready()
    return [one.layers[0] for one in out], (time.process_time() - start) / len(out)


def bands(image: FloatImage) -> list[FloatImage]:
    """All detail, fine and medium detail [H, W, 3]."""
    fine, coarse = (cv2.GaussianBlur(image, (0, 0), sigma) for sigma in SIGMAS)
    return [np.asarray(one, np.float32) for one in (image - coarse, image - fine, fine - coarse)]


def dense_flow(one: FloatImage, other: FloatImage) -> FloatImage:
    """The flow from `one` to `other`, [H, W, 2]."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    gray = [cv2.cvtColor(np.rint(255 * image).astype(np.uint8), cv2.COLOR_RGB2GRAY) for image in (one, other)]
    return np.asarray(search.calc(gray[0], gray[1], np.zeros((*gray[0].shape, 2), np.float32)), np.float32)


def warped(image: FloatImage, flow: FloatImage) -> FloatImage:
    return warp_by_flow(image, flow, cv2.INTER_LANCZOS4)


def warped_neighbors(crops: Sequence[FloatImage], distance: int) -> Iterator[tuple[int, FloatImage]]:
    """Frame numbers, and another frame `distance` away that is warped onto it."""
    for number in range(len(crops)):
        for other in (number - distance, number + distance):
            if 0 <= other < len(crops):
                yield number, warped(crops[other], dense_flow(crops[number], crops[other]))


def detail_kept(
    before: Sequence[FloatImage],
    after: Sequence[FloatImage],
    others: Iterator[tuple[int, FloatImage]],
    face: NDArray[np.bool_],
) -> list[float]:
    """Covariance of the filtered frames with the other frames, relative to that of the unfiltered ones, for each band."""
    sums = np.zeros((2, 3))
    for number, other in others:
        reference = bands(other)
        for row, image in enumerate((before[number], after[number])):
            sums[row] += [float((one * two)[face].sum(dtype=np.float64)) for one, two in zip(bands(image), reference)]
    return [float(value) for value in sums[1] / sums[0]]


def flicker(crops: Sequence[FloatImage], clean: Sequence[FloatImage], face: NDArray[np.bool_]) -> float:
    """Root mean square difference of consecutive crops along the flow of the clean ones."""
    squares = []
    for number in range(1, len(crops)):
        difference = crops[number] - warped(crops[number - 1], dense_flow(clean[number], clean[number - 1]))
        squares.append(float((difference[face] ** 2).mean()))
    return float(np.sqrt(np.mean(squares)))


def measure(clip: Clip, network: Callable[[FloatImage], FloatImage], options: argparse.Namespace) -> str:
    frames = read_frames(clip.path, clip.start, options.frames)
    alignments = face_alignments(frames, clip.box)
    side = CROP
    while side >= 2 * max(alignments[0].side, GUIDE_SIZE / 2):  # as the second pass downscales
        side //= 2
    rng = np.random.default_rng(1)
    noisy = [np.rint(np.clip(frame + rng.normal(0, NOISE, frame.shape), 0, 255)).astype(np.uint8) for frame in frames]
    face = ellipse_radius(side, *FACE) < 1

    def run(some: Sequence[RGB8]) -> tuple[list[FloatImage], list[FloatImage], list[FloatImage], float]:
        crops = [crop_face(ImageData(frame), alignment) for frame, alignment in zip(some, alignments)]
        restored = [downscale(network(crop), side) for crop in crops]
        crops = [downscale(crop, side) for crop in crops]
        guides = [downscale(crop, min(side, GUIDE_SIZE)) for crop in crops]
        return crops, restored, *filtered(guides, restored, options.amount)

    crops, before, after, seconds = run(frames)
    _, noisy_before, noisy_after, _ = run(noisy)
    kept = detail_kept(before, after, warped_neighbors(before, RADIUS + 1), face)
    everything = detail_kept(before, after, iter(enumerate(before)), face)
    noisy_kept = detail_kept(noisy_before, noisy_after, iter(enumerate(before)), face)
    flickers = [flicker(some, crops, face) for some in (noisy_before, noisy_after, before)]
    noise = [
        flicker([one - other for one, other in zip(*pair)], crops, face)
        for pair in ((noisy_before, before), (noisy_after, after))
    ]
    ratios = [noise[1] / noise[0], flickers[1] / flickers[0], flickers[2] / flickers[0]]
    figures = [*kept, everything[0], noisy_kept[0], *ratios]
    return f"{side:6}" + "".join(f"{figure:9.3f}" for figure in figures) + f"{1000 * seconds:8.0f}"


def main() -> None:
    """Parses the arguments and prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("clips", nargs="+", type=Clip.parse, metavar="CLIP@SECOND:X0,Y0,X1,Y1")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--amount", type=float, default=DEFAULT_AMOUNT)
    options = parser.parse_args()
    heads = "".join(f"{head:>9}" for head in ("kept", "fine", "mid", "all", "noisy", "noise", "flicker", "floor"))
    print(f"{'network':9}{'clip':14}{'side':>6}{heads}{'ms':>8}")
    for name in options.networks.split(","):
        for clip in options.clips:
            print(f"{name:9}{clip.path.stem:14}{measure(clip, NETWORKS[name], options)}", flush=True)


if __name__ == "__main__":
    main()
