"""Videos made from one photograph moved along a known path; what an encoder, noise, a cut or a passer-by does to them."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from gpen_core.faces.align import invert_affine
from gpen_core.faces.warp import warp

RGB8 = NDArray[np.uint8]
Matrix = NDArray[np.float64]
PATHS = ("still", "pan", "zoom", "rotation", "shake")

PAN = 0.08  # of the frame's width, to each side
ZOOM = 1.25  # largest, and one over it the smallest
ROTATION = 12.0  # degrees to each side
SHAKE = (0.008, 0.008, 0.6, 0.006)  # standard deviations: x and y of the frame's width, degrees, log of the scale
SHAKE_SMOOTHED = 2.5  # frames
PERIOD = 60  # frames there and back at speed 1


def render_video(photo, path, count, size, noise=0.0, seed=0, *, middle=None, width=None, speed=1.0):
    """Yields (frame [h, w, 3] uint8, matrix [2, 3] from the photograph's pixel centers to the frame's), `count` times.

    `size` is (width, height) of a frame. At rest its middle shows `middle` (x, y; default: the photograph's own) and it is
    `width` pixels of the photograph wide (default: nine tenths of what fits). Paths: see `PATHS`; `speed` is beside a
    period of 60 frames (the shake's is how far it shakes). `noise`: standard deviation in levels of 255, new in every frame.
    """
    rng = np.random.default_rng(seed)
    fits = 0.9 * min(photo.shape[1], photo.shape[0] * size[0] / size[1])
    rest = _rest_matrix(middle or ((photo.shape[1] - 1) / 2, (photo.shape[0] - 1) / 2), size[0] / (width or fits), size)
    source = photo.astype(np.float32)
    for motion in motions(path, count, size[0], speed, rng):
        matrix = _about_middle(motion, size) @ np.vstack((rest, [0, 0, 1]))
        yield add_noise(warp(source, matrix, size), noise, rng), matrix


def motions(path, count, width, speed, rng):
    """[count, 4]: shift in x and y (px), angle (degrees), log of the scale, of every frame beside the video at rest."""
    wave = np.sin(2 * math.pi * speed * np.arange(count) / PERIOD)
    out = np.zeros((count, 4))
    if path == "pan":
        out[:, 0], out[:, 1] = PAN * width * wave, PAN * width / 4 * wave
    elif path == "zoom":
        out[:, 3] = math.log(ZOOM) * wave
    elif path == "rotation":
        out[:, 2] = ROTATION * wave
    elif path == "shake":
        out = _smooth(rng.normal(size=(count + 40, 4)))[20:-20] * speed * SHAKE
        out[:, :2] *= width
    elif path != "still":
        raise ValueError(f"No path is called {path!r}: {PATHS}")
    return out


def add_noise(image, noise, rng):
    """The image (0 to 255, any type) with white noise of `noise` levels, rounded to uint8."""
    grain = rng.normal(0, noise, image.shape) if noise else 0
    return np.rint(np.clip(image + grain, 0, 255)).astype(np.uint8)


def concatenate(*films):
    """One video after the other."""
    return itertools.chain(*films)


def with_passerby(frames, other, first, last, *, side, height=0.5):
    """The same video, and in frames `first` to `last` an ellipse cut from `other` goes from left to right, in front.

    `other` [H, W, 3] is shown `side` pixels wide, its middle at `height` of the frame's. Yields (frame, matrix, matrix of
    `other` to the frame or None).
    """
    rows, columns = other.shape[:2]
    y, x = np.mgrid[:rows, :columns]
    inside = (np.hypot((x + 0.5) / columns - 0.5, (y + 0.5) / rows - 0.5) < 0.49).astype(np.float32)
    for number, (frame, matrix) in enumerate(frames):
        if not first <= number <= last:
            yield frame, matrix, None
            continue
        size = (frame.shape[1], frame.shape[0])
        x = (number - first) / (last - first) * (size[0] + side) - side / 2
        where = _rest_matrix(((columns - 1) / 2, (rows - 1) / 2), side / columns, size)
        where[:, 2] += (x - size[0] / 2, (height - 0.5) * size[1])
        share = np.clip(warp(inside, where, size, cubic=False, replicate=False), 0, 1)[..., None]
        mixed = share * warp(other.astype(np.float32), where, size) + (1 - share) * frame
        yield add_noise(mixed, 0, None), matrix, where


def encode_h264(frames: Iterable[RGB8], crf: int, rate: int = 30) -> list[RGB8]:
    """The frames after H.264 (4:2:0) at that quality, decoded again. Even sizes."""
    import av

    file, frames = io.BytesIO(), list(frames)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(rate), options={"crf": str(crf), "threads": "1"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def split_frames(frames: Iterable[tuple[RGB8, Matrix]]) -> tuple[list[RGB8], list[Matrix]]:
    """A video as two lists."""
    both = list(frames)
    return [frame for frame, _ in both], [matrix for _, matrix in both]


def transform_points(points, matrix):
    """Points [..., 2] of the photograph in the frame."""
    return np.asarray(points) @ matrix[:, :2].T + matrix[:, 2]


def unwarp(frames: Iterable[RGB8], matrices: Iterable[Matrix], size, density=1) -> Iterator[NDArray[np.float32]]:
    """Frames [h, w, 3] warped back onto the photograph, 0 to 255; cubic. `size`: of the photograph, (width, height).

    With a `density` that is no less than the frames' own, a photograph's pixel is so many in a row: else what is sharp in a
    frame is folded by the reduction, differently at each of its places, and would pass for change over time.
    """
    shift = (density - 1) / 2  # pixel centers
    dense = np.array([[density, 0, shift], [0, density, shift], [0, 0, 1.0]])
    for frame, matrix in zip(frames, matrices):
        back = dense @ np.vstack((invert_affine(matrix), [0, 0, 1]))
        yield warp(frame.astype(np.float32), back[:2], (size[0] * density, size[1] * density))


def _rest_matrix(middle, scale, size):
    return np.array(
        [
            [scale, 0, (size[0] - 1) / 2 - scale * middle[0]],
            [0, scale, (size[1] - 1) / 2 - scale * middle[1]],
        ]
    )


def _about_middle(motion, size):
    matrix = cv2.getRotationMatrix2D(((size[0] - 1) / 2, (size[1] - 1) / 2), -motion[2], math.exp(motion[3]))
    matrix[:, 2] += motion[:2]
    return matrix


def _smooth(values):
    """Along the first axis by a Gaussian, at the same standard deviation as white noise of 1 has."""
    reach = np.arange(-math.ceil(3 * SHAKE_SMOOTHED), math.ceil(3 * SHAKE_SMOOTHED) + 1)
    kernel = np.exp(-0.5 * (reach / SHAKE_SMOOTHED) ** 2)
    kernel /= math.sqrt((kernel**2).sum())
    return np.stack([np.convolve(column, kernel, "same") for column in values.T], 1)
