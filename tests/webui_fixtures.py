"""What the tests of scripts/ share: a plugin, for its fixtures, and imported for its functions.

PYTEST_DONT_REWRITE"""

import sys

import helpers
import numpy as np
import pytest

RED = "gpen-red-256.pth"


@pytest.fixture(scope="session")
def webui_models(tmp_path_factory, detector_weights):
    folder = tmp_path_factory.mktemp("webui") / "models"
    files = {
        f"GPEN/{helpers.DETECTOR_FILE}": detector_weights,
        f"GPEN/{RED}": helpers.constant_weights(256, (1, 0, 0)),
        "facerestore_models/gpen-broken.pth": b"PK\x03\x04 no checkpoint",
    }
    helpers.write_weights(folder, files)
    return folder


@pytest.fixture
def host(webui_models, monkeypatch):
    """The fake host, with the red network chosen in its settings."""
    import fake_webui  # which is skipped without fastapi

    made = fake_webui.Host(webui_models, monkeypatch)
    made.opts.gpen_model = RED
    return made


def is_red(image):
    array = np.asarray(image)
    return (array[..., 0] > 250) & (array[..., 1] < 5) & (array[..., 2] < 5)


def script_arguments(**chosen):
    """The values of the controls of txt2img and img2img as the page gives them, by their places; the red network is on."""
    names = ("enable", *sys.modules["gpen_webui.controls"].CONTROL_NAMES, "save_before")
    values = {"enable": True, "model": RED, **chosen}
    assert set(values) <= set(names)
    return [values.get(name) for name in names]
