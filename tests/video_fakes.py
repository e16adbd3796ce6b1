"""A network and videos that take no time, for tests of what is around them."""

import time
from functools import lru_cache

import helpers
import numpy as np
import torch
from helpers import FakeDetector, make_face
from PIL import Image

from gpen_core.network import GPEN
from gpen_core.pipeline.gpen_runner import GPENRunner
from gpen_core.pipeline.model_set import ModelSet
from gpen_core.pipeline.restorer import FaceRestorer
from gpen_core.pipeline.torch_image import to_array, to_tensor
from gpen_core.tools.demo.images import astronaut

SIZE = (240, 192)
FACE = make_face((120.0, 96.0), 70.0)


@lru_cache(maxsize=2)
def identity_network(size):
    return GPEN.from_state_dict(helpers.identity_weights(size))


class FakeRunner(GPENRunner):
    """`change` in place of a network; it counts the faces, and fails after so many if it is told to."""

    def __init__(self, change, seconds=0.0, size=256, device="cpu"):
        super().__init__(identity_network(size), torch.device(device))
        self.change, self.seconds = change, seconds
        self.faces, self.fails_after = 0, None

    def restore(self, crops, strip_bytes, pulse):
        pulse()
        self.faces += len(crops)
        if self.fails_after is not None and self.faces > self.fails_after:
            raise RuntimeError("the network broke")
        time.sleep(self.seconds * len(crops))
        if isinstance(crops[0], torch.Tensor):
            return [to_tensor(self.changed(to_array(crop)), crop.device) for crop in crops]
        return np.stack([self.changed(crop) for crop in crops])

    def changed(self, crop):
        return np.clip(self.change(crop), 0, 1).astype(np.float32)


def invert(crop):
    return 1 - crop


def restorer(change=invert, faces=(FACE,), seconds=0.0, device="cpu"):
    """A restorer that does this to the faces, which are at the same place in every frame; and its network."""
    network = FakeRunner(change, seconds, device=device)
    return FaceRestorer(ModelSet([network], FakeDetector(faces), torch.device(device))), network


def frames(count, noise=4.0, seed=0, size=SIZE):
    """The astronaut's face in the middle of every frame, with new noise in each: [h, w, 3] uint8."""
    rng = np.random.default_rng(seed)
    width, height = size
    photo = astronaut()[118 - height // 2 :][:height, 224 - width // 2 :][:, :width].astype(np.float32)
    for _ in range(count):
        yield np.clip(np.rint(photo + rng.normal(0, noise, photo.shape)), 0, 255).astype(np.uint8)


def frame_folder(folder, frames):
    """Write frames [H, W, 3] uint8 as a folder of images, which is a video."""
    folder.mkdir()
    for n, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{n:03}.png", compress_level=1)
    return folder
