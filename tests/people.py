"""People with known embeddings: patterns of colored cells, where `embedder_files.layout_embedder` sees a face.

PYTEST_DONT_REWRITE: this is both a plugin, for its fixtures, and imported for its functions.
"""

import hashlib
from dataclasses import replace

import cv2
import embedder_files
import helpers
import numpy as np
import pytest
import torch
from compositor_backends import Sharpening

from gpen_core.faces.identity import SFace, align_for
from gpen_core.pipeline.gpen_runner import GPENRunner
from gpen_core.pipeline.identity_models import IdentityModels
from gpen_core.pipeline.model_set import ModelSet
from gpen_core.pipeline.restorer import FaceRestorer
from gpen_core.weights import catalog

EMBEDDER_FILE = "face_recognition_sface_2021dec.onnx"
ONNX = embedder_files.layout_embedder()
CPU = torch.device("cpu")
ANNA, BOB, CARA = 1, 2, 3


def pattern(person):
    """[112, 112, 3] in [0, 1]: 7 x 7 colored cells."""
    cells = np.random.default_rng(person).random((7, 7, 3), np.float32)
    return cv2.resize(cells, (112, 112), interpolation=cv2.INTER_NEAREST)


def mixed(person, other, share):
    return (1 - share) * pattern(person) + share * pattern(other)


def photo(faces, people, size):
    """[H, W, 3] in [0, 1] of `size` (width, height), with a person, or a pattern, at each face."""
    image = np.full((size[1], size[0], 3), 0.5, np.float32)
    embedder = SFace(ONNX)
    for face, person in zip(faces, people):
        look = pattern(person) if isinstance(person, int) else person
        matrix = align_for(embedder, face.landmarks).matrix
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        inverse = cv2.invertAffineTransform(matrix)
        ones = cv2.warpAffine(np.ones((112, 112), np.float32), inverse, size, flags=flags ^ cv2.WARP_INVERSE_MAP)
        painted = cv2.warpAffine(look, inverse, size, flags=flags ^ cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
        image[ones > 0.5] = painted[ones > 0.5]
    return image


SHOT = 6  # frames


def shot(faces, people, size, seed):
    """[height, width, 3] uint8 frames of these people before another background than in the other shots, with noise."""
    rng = np.random.default_rng(seed)
    frame = photo(faces, people, size)
    frame[(frame == 0.5).all(2)] = rng.random(3)
    for _ in range(SHOT):
        yield np.clip(np.rint(255 * frame + rng.normal(0, 2, frame.shape)), 0, 255).astype(np.uint8)


class FacesBySize(helpers.FakeDetector):
    """Finds the faces that belong to an image of that size (width, height)."""

    def __init__(self, by_size):
        super().__init__(())
        self.by_size = by_size

    def detect(self, images, options, boxes=None, on_tick=lambda: None, make_source=None, near=None):
        on_tick()
        return [list(self.by_size.get(image.size, ())) for image in images]


PORTRAIT, PAIR, GROUP = (200, 200), (400, 200), (640, 200)
ALONE = [helpers.make_face((100, 100), 80)]
TWO = [helpers.make_face((100 + 200 * n, 100), 80) for n in range(2)]
THREE = [helpers.make_face((100 + 200 * n, 100), 80) for n in range(3)]


def portrait_of(person):
    return photo(ALONE, [person], PORTRAIT)


def group(*people):
    return photo(THREE, people, GROUP)


def restorer(red=0.2, load=None, is_present=lambda: True):
    """Finds one face in a portrait, two in a pair and three in a group, and compares them by their cells of color.

    Its network adds to red (of [-1, 1]), and takes no time."""
    detector = FacesBySize({PORTRAIT: ALONE, PAIR: TWO, GROUP: THREE})
    identity = IdentityModels(detector, load or (lambda progress: SFace(ONNX)), is_present)
    runner = GPENRunner(Sharpening(red, amount=0), CPU)
    return FaceRestorer(ModelSet([runner], detector, CPU, identity=identity))


@pytest.fixture
def pin_embedder(monkeypatch):
    """Puts the embedder's file, or these bytes, into a folder. The catalog pins the digest of the embedder; a host may have
    its own copy of that module."""

    def put(folder, content=ONNX, catalog=catalog):
        changes = {"sha256": hashlib.sha256(ONNX).hexdigest(), "bytes": len(ONNX)}
        entries = tuple(replace(one, **changes) if one.name == "sface" else one for one in catalog.CATALOG)
        monkeypatch.setattr(catalog, "CATALOG", entries)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / EMBEDDER_FILE).write_bytes(content)
        return folder / EMBEDDER_FILE

    return put
