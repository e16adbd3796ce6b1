"""The command line, run inside the test's own process, and images to run it on.

PYTEST_DONT_REWRITE: this is both a plugin, for its fixtures, and imported for its functions.
"""

import signal
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image

from gpen_core import cli
from gpen_core.images import codecs

DETECTOR = "detection_mobilenet0.25_Final.safetensors"


class CommandResult(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def gpen(capsys):
    """Runs the command line in this process; an error is one message on stderr and never a traceback."""

    def run(*arguments):
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as usage:  # argparse's way out
            status = usage.code
        ran = CommandResult(status, *capsys.readouterr())
        if "--debug" not in arguments:
            assert "Traceback" not in ran.err
            assert status == 0 or ran.err.strip()
        return ran

    return run


@pytest.fixture
def restore(gpen, models):
    """`gpen restore` with the small detector, a network of 256 pixels and nothing but the folder `models`."""

    def run(*arguments, model="red-256"):
        named = ("--model", model, "--detector", "retinaface_mobile0.25", "--models-dir", models)
        return gpen("restore", *named, "--device", "cpu", *arguments)

    return run


@pytest.fixture(scope="session")
def portrait(astronaut):
    """[256, 256, 3] uint8 with one face, blurred a little: what a network without effect gives back nearly unchanged."""
    return np.ascontiguousarray(cv2.GaussianBlur(astronaut[:256, 96:352], (0, 0), 1.2))


@pytest.fixture
def face(tmp_path, portrait):
    path = tmp_path / "face.png"
    Image.fromarray(portrait).save(path)
    return path


@pytest.fixture
def plain(tmp_path):
    """An image without a face."""
    path = tmp_path / "plain.png"
    Image.new("RGB", (64, 48), (90, 120, 150)).save(path)
    return path


@pytest.fixture
def video(gpen, models):
    """`gpen video` with the small detector, a network of 256 pixels and nothing but the folder `models`."""

    def run(*arguments, model="red-256"):
        named = ("--model", model, "--detector", "retinaface_mobile0.25", "--models-dir", models, "--offline")
        return gpen("video", *arguments, *named, "--device", "cpu")

    return run


def write_broken_png(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\nthis is no picture")
    return path


def file_names(folder):
    return sorted(path.name for path in folder.iterdir())


def pixels(path):
    return codecs.read(path).image.to_input_type()


@pytest.fixture
def interruptible():
    """SIGINT interrupts this process and those it starts, also where it was ignored: a shell does so for background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
