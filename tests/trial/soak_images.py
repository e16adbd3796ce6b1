"""Small images of every kind by lot: formats, depths, alpha, with and without a face, and some that are broken."""

from __future__ import annotations

import cv2
import numpy as np

from gpen_core.images.codecs import EncodedImage, encode
from gpen_core.images.formats import OUTPUT_SUFFIXES
from gpen_core.images.image import from_array
from gpen_core.images.metadata import Metadata
from gpen_core.tools.demo.images import HEAD_BOX, astronaut

from .damage import dice

SMALLEST, LARGEST = 64, 500  # pixels a side
DEEP, WITH_ALPHA = (".png", ".tiff"), (".png", ".webp", ".tiff")
BROKEN = 0.1  # of all


def make(number, seed):
    """One image's suffix and bytes, the same each time."""
    lot = dice("soak", seed, number)
    suffix = lot.choice((".png", ".jpg", ".webp", ".tiff", ".bmp"))
    array = face(lot) if lot.random() < 0.6 else texture(lot)
    if lot.random() < 0.2:
        array = array[..., :1]
    if suffix in WITH_ALPHA and lot.random() < 0.4:
        array = np.dstack((array, np.full(array.shape[:2], lot.randrange(256), np.uint8)))
    if suffix in DEEP and lot.random() < 0.4:
        array = array.astype(np.uint16) * 257
    data = encode(EncodedImage(from_array(array), Metadata(), "PNG", lot.random() < 0.5), OUTPUT_SUFFIXES[suffix])
    return suffix, data[: lot.randrange(1, len(data))] if lot.random() < BROKEN else data


def face(lot):
    x0, y0, x1, y1 = HEAD_BOX
    side = lot.randrange(SMALLEST, LARGEST + 1)
    return cv2.resize(astronaut()[y0:y1, x0:x1], (side, side), interpolation=cv2.INTER_AREA)


def texture(lot):
    height, width = (lot.randrange(SMALLEST, LARGEST + 1) for _ in range(2))
    coarse = np.random.default_rng(lot.randrange(2**32)).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
