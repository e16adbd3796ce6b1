"""Grain for restored faces: noise with the strength, the spectrum and the colours of that in the picture around them.

It belongs to the pixels of the picture that a face is pasted into, not to the network's crop. What the restored face has of
its own is measured in the same way and only the rest is added. The noise is a fixed field over the whole picture, drawn from
the picture's own data: neither the order of faces nor how they are batched changes it, and where two faces overlap they have
the same.
"""

from __future__ import annotations

import hashlib
import math

import cv2
import numpy as np

from ..images.image import PEAKS, FloatImage, Picture, Region
from .align import Alignment
from .spectrum import CENTRES, EDGES, RINGS, SIDES, Matrix, Spectrum, measure

PATCHES = 600  # at most so many are looked at
SMALLEST_AROUND = 48  # px: at least so far around a face
SELDOM = 32  # patches: where fewer fit, smaller ones are taken
FAINTEST = 0.5 / 255  # deviation: below it little is left but what rounding to 8 bits makes, and nobody sees it
BLOCK = 128  # px of the field that are drawn at once
RADIUS = 15  # px that grain reaches
GRID = 64  # frequencies that its filter is computed at
LEAST_PART = 0.2  # of the restored face in a pixel: below it, what blending takes away is not made good for in full


def add(
    picture: Picture, alignment: Alignment, region: Region, restored: FloatImage, part: FloatImage, amount: float
) -> None:
    """Adds the picture's grain to `restored` [h, w, 3], RGB in [0, 1]: a face warped into `region` of the picture.

    `part` [h, w] in [0, 1] is how much of each pixel the face will be. Blending averages the picture's noise with the
    face's and so weakens both; the grain is stronger there, so that the blend has the picture's. `amount`, 0 to 1, scales
    its deviation. A picture without measurable noise (below `FAINTEST`) leaves the face as it is.
    """
    wanted = _of_picture(picture, alignment)
    if wanted is None or wanted.variance < FAINTEST**2:
        return
    there = _of_face(restored, alignment, region)
    grain = _grown(wanted.without(there), picture, region)
    if grain is None:
        return
    own = min(1.0, math.sqrt(there.variance / wanted.variance))
    restored += grain * (np.float32(amount) * _made_good(part, 1 - own))[..., None]
    np.clip(restored, 0, 1, out=restored)


def _made_good(part: FloatImage, missing: float) -> FloatImage:
    """[h, w]: how much stronger grain must be where a pixel is only in `part` the face's.

    With deviation s in the picture and (1 - m) s in the face, of the same noise, a blend of w has (1 - w m) s; what lacks
    in power beside s, 1 - (1 - w m)^2 = w m (2 - w m), is brought by grain of w k times its deviation at w = 1, m (2 - m).
    """
    w = np.maximum(part, LEAST_PART)
    return np.asarray(np.sqrt((2 - w * np.float32(missing)) / (w * np.float32(2 - missing))), np.float32)


def _of_picture(picture: Picture, alignment: Alignment) -> Spectrum | None:
    """The noise in the face's square and around it; without that of rounding, which the result has anyway."""
    inner = alignment.region(*picture.size)
    grow = max(SMALLEST_AROUND, (inner.x1 - inner.x0) // 2, (inner.y1 - inner.y0) // 2)
    side, places = _places(picture.around(inner, grow))
    if not places:
        return None
    step = 1 / picture.peak if picture.pixels.dtype in PEAKS else 0.0
    patches = [picture.region(Region(x, y, x + side, y + side)) for x, y in places]
    return measure(np.stack(patches), step**2 / 12)


def _of_face(restored: FloatImage, alignment: Alignment, region: Region) -> Spectrum:
    """The noise that a restored face has; none where it is too small to tell."""
    side, places = _places(region, alignment)
    patches = [restored[y - region.y0 :, x - region.x0 :][:side, :side] for x, y in places]
    return (measure(np.stack(patches)) if patches else None) or Spectrum.none()


def _places(region: Region, square: Alignment | None = None) -> tuple[int, list[tuple[int, int]]]:
    """Side of patches and their corners x, y, evenly over the region, or over what of it is inside a face's square."""
    side, places = SIDES[0], list[tuple[int, int]]()
    for side in SIDES:
        width, height = region.x1 - region.x0 - side + 1, region.y1 - region.y0 - side + 1
        if width < 1 or height < 1:
            continue
        step = max(side // 4, math.ceil(math.sqrt(width * height / PATCHES)))
        corners = [
            (x, y)
            for y in range(region.y0, region.y1 - side + 1, step)
            for x in range(region.x0, region.x1 - side + 1, step)
        ]
        places = [corner for corner in corners if square is None or _holds(square, *corner, side)]
        if len(places) >= SELDOM:
            break
    return side, places


def _holds(square: Alignment, x: int, y: int, side: int) -> bool:
    ends = np.array([[x, y], [x + side, y], [x, y + side], [x + side, y + side]])
    inside = ends @ square.matrix[:, :2].T + square.matrix[:, 2]
    return bool((inside >= 0).all() and (inside <= square.size - 1).all())


def _grown(noise: Spectrum, picture: Picture, region: Region) -> FloatImage | None:
    """[h, w, 3]: noise like that over the region; None where it would be too faint to see.

    Its colours are those of the noise over all frequencies together, each with its own spectrum."""
    if noise.variance < (FAINTEST / 2) ** 2:
        return None
    _, colours = np.linalg.eigh(noise.power.mean(0))
    powers = np.einsum("ic,rij,jc->cr", colours, noise.power, colours)  # [3, RINGS]
    white = _white(_seed(picture), region)
    out = np.zeros((region.y1 - region.y0, region.x1 - region.x0, 3), np.float32)
    for power, colour in zip(powers, colours.T.astype(np.float32)):
        # There and back with the same colours: two of equal power may be any two, and another face has others.
        if power.max() >= 1e-3 * powers.max():
            field = cv2.filter2D(white @ colour, -1, _kernel(power))[RADIUS:-RADIUS, RADIUS:-RADIUS]
            out += field[..., None] * colour
    return out


def _kernel(power: Matrix) -> FloatImage:
    """[2 * RADIUS + 1, 2 * RADIUS + 1]: gives white noise of variance 1 that power [RINGS], the same in all directions."""
    f = np.fft.fftfreq(GRID)
    radius = np.hypot(f[:, None], f[None, :])
    number = np.digitize(radius, EDGES) - 1
    rings = (number[..., None] == np.arange(RINGS)).reshape(-1, RINGS)
    wanted = np.maximum(power, 1e-6 * power.max())
    nodes = wanted.copy()
    for _ in range(6):  # in between the logarithm is linear, and the rings have on average what they should have
        smooth = np.exp(np.interp(radius, CENTRES, np.log(nodes)))
        nodes *= wanted / (smooth.ravel() @ rings / rings.sum(0))
    centred = np.fft.fftshift(np.fft.ifft2(np.sqrt(smooth)).real)
    middle = slice(GRID // 2 - RADIUS, GRID // 2 + RADIUS + 1)
    return np.ascontiguousarray(centred[middle, middle], np.float32)


def _white(seed: int, region: Region) -> FloatImage:
    """[h + 2 * RADIUS, w + 2 * RADIUS, 3]: white noise of variance 1 over the region and around it, the same at one place
    whatever the region."""
    y0, x0 = region.y0 - RADIUS, region.x0 - RADIUS
    y1, x1 = region.y1 + RADIUS, region.x1 + RADIUS
    rows, columns = range(y0 // BLOCK, (y1 - 1) // BLOCK + 1), range(x0 // BLOCK, (x1 - 1) // BLOCK + 1)
    out = np.empty((len(rows), BLOCK, len(columns), BLOCK, 3), np.float32)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            draw = np.random.default_rng([seed, row + 1, column + 1])  # no seed is below 0
            out[i, :, j] = draw.standard_normal((BLOCK, BLOCK, 3), np.float32)
    top, left = y0 - rows[0] * BLOCK, x0 - columns[0] * BLOCK
    return out.reshape(len(rows) * BLOCK, -1, 3)[top : top + y1 - y0, left : left + x1 - x0]


def _seed(picture: Picture) -> int:
    """From the picture's data: of up to about 256 of its rows."""
    rows = picture.pixels[:: max(1, picture.height // 256)]
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(rows).tobytes(), digest_size=8).digest(), "little")
