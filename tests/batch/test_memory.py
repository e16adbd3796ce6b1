"""Images that are large in memory: how many at once, and which are refused before they are decoded."""

import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import cv2
import helpers
import image_files as made
import numpy as np
import pytest
from image_files import png_chunk
from PIL import Image

from gpen_core import OutOfMemory, RestoreOptions
from gpen_core.batch import local
from gpen_core.batch.job import ImageJob
from gpen_core.errors import InputError
from gpen_core.images import codecs, formats
from gpen_core.pipeline import devices

ROOT = Path(__file__).resolve().parents[2]
SIDE = 13377


@pytest.fixture(scope="module")
def red():
    """Finds one face near the middle of every image."""
    return helpers.restorer(helpers.red_weights(256), [helpers.make_face((200, 150), 40)])


@pytest.fixture
def huge(tmp_path):
    """A PNG's header, for 179 megapixels of 16 bits with alpha: 1.4 GB decoded. None of it is there."""
    path = tmp_path / "huge.png"
    header = struct.pack(">LLBBBBB", SIDE, SIDE, 16, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks))
    return path


def test_what_is_not_allowed_is_refused_before_it_is_decoded(huge, monkeypatch):
    assert codecs.required_memory(huge) > 5e9
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(
        OutOfMemory, match=rf"huge\.png: {SIDE} x {SIDE} pixels need up to 9\.\d+ GiB .* 3\.73 GiB are allowed"
    ):
        codecs.read(huge, 4 * 10**9)


def test_a_small_file_of_many_pixels_is_refused_too(tmp_path):
    path = tmp_path / "a.webp"
    Image.new("RGB", (16000, 1000)).save(path, lossless=True)
    assert path.stat().st_size < 5000
    with pytest.raises(OutOfMemory, match=r"up to \d+\.\d MiB .* 95\.4 MiB are allowed"):
        codecs.read(path, 10**8)


def test_the_restorer_refuses_what_its_own_budget_does_not_allow(red, huge):
    with pytest.raises(OutOfMemory, match="Allow more memory"):
        red.restore(huge, max_memory=4 * 10**9)


def test_a_run_goes_on_without_it_and_its_status_says_so(red, huge, tmp_path):
    Image.new("RGB", (60, 50)).save(tmp_path / "small.png")
    jobs = [ImageJob(path, tmp_path / "out" / path.name) for path in (huge, tmp_path / "small.png")]
    outcomes = local.process_all(red, jobs, RestoreOptions(), lambda _: None, max_memory=10**9)
    assert [type(one.error) for one in outcomes] == [OutOfMemory, type(None)]
    assert "953.7 MiB are allowed" in str(outcomes[0].error)


@pytest.mark.parametrize("share", [0.5, 1.5, 2.5, 3.5])
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.slow
def test_as_many_images_are_in_memory_as_there_is_room_for(red, tmp_path, monkeypatch, share, told):
    """By `max_memory`, and without it by half of the machine's."""
    names = [f"{n}.png" for n in range(5)]
    for name in names:
        Image.new("RGB", (400, 300), (int(name[0]), 9, 9)).save(tmp_path / name)
    room = int(share * codecs.required_memory(tmp_path / names[0]))
    monkeypatch.setattr(devices, "host_memory", lambda: None if told else 2 * room)
    held, most, lock = set(), [], threading.Lock()

    def hold(name):
        with lock:
            held.add(name)
            most.append(len(held))

    read, write = codecs.read, local.write_bytes
    monkeypatch.setattr(codecs, "read", lambda path, *_: (hold(path.name), read(path))[1])
    monkeypatch.setattr(local, "write_bytes", lambda path, data: (write(path, data), held.discard(path.name)))
    plan = red.models.runners[0].plan_batches
    monkeypatch.setattr(red.models.runners[0], "plan_batches", lambda max_memory: plan(None))
    jobs = [ImageJob(tmp_path / name, tmp_path / "out" / name) for name in names]
    outcomes = local.process_all(red, jobs, RestoreOptions(), lambda _: None, max_memory=room if told else None)
    assert [one.status for one in outcomes] == ["restored"] * 5
    assert max(most) == min(3, max(1, int(share)))


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"II*\0\xff\xff\xff\xff" + bytes(9), b"RIFF\0\0\0\0WEBPVP8 "])
def test_what_is_no_image_is_estimated_by_its_length(tmp_path, data):
    (tmp_path / "a.png").write_bytes(data)
    assert codecs.required_memory(tmp_path / "a.png") == 2 * len(data)
    with pytest.raises(InputError):
        codecs.required_memory(tmp_path)


# Reads, restores and writes one image of each kind, each in a process of its own, whose peak is its own: a fork of one that
# has imported everything.
CODE = """
import os, sys, traceback
import cv2, torch
from pathlib import Path
from gpen_core import RestoreOptions, FaceRestorer
from gpen_core.batch import local
from gpen_core.batch.job import ImageJob
from gpen_core.images import codecs, formats
def told(field):
    return 1024 * next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(field))
model, detector, folder, small, *kinds = sys.argv[1:]
def measure(kind):
    restorer = FaceRestorer.load(Path(model), Path(detector), device="cpu", dtype="fp32")
    def run(path):
        jobs = [ImageJob(path, path.with_name("out-" + path.name))]
        return local.process_all(restorer, jobs, RestoreOptions(), lambda _: None)[0]
    large = Path(folder, kind)
    run(Path(small))
    open("/proc/self/clear_refs", "w").write("5")
    before = told("VmRSS")
    status = run(large).status
    print(kind, status, told("VmHWM") - before, codecs.required_memory(large), restorer.activation_bytes(), flush=True)
for kind in kinds:
    child = os.fork()
    if not child:
        try:
            measure(kind)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    os.waitpid(child, 0)
"""


def by_pillow(rgb, format_name, **how):
    return np.frombuffer(made.encode_image(rgb, format_name, **how), np.uint8)


KINDS = {
    "rgb.png": lambda rgb: cv2.imencode(".png", rgb)[1],
    "rgba16.png": lambda rgb: cv2.imencode(".png", np.dstack((rgb, rgb[..., :1])).astype(np.uint16) * 257)[1],
    "rgb16.tif": lambda rgb: cv2.imencode(".tif", rgb.astype(np.uint16) * 257)[1],
    "rgb.bmp": lambda rgb: cv2.imencode(".bmp", rgb)[1],
    "rgb.jpg": lambda rgb: cv2.imencode(".jpg", rgb)[1],
    "rgba.webp": lambda rgb: cv2.imencode(".webp", np.dstack((rgb, rgb[..., :1])), [cv2.IMWRITE_WEBP_QUALITY, 101])[1],
    "gray.png": lambda rgb: cv2.imencode(".png", rgb[..., 0])[1],
    "rgb.gif": lambda rgb: by_pillow(rgb, "GIF"),
    "rgb.jp2": lambda rgb: by_pillow(rgb, "JPEG2000", irreversible=True, quality_layers=[20]),
    "rgb.avif": lambda rgb: by_pillow(rgb, "AVIF", speed=10),
    "rgb.heic": lambda rgb: np.frombuffer(made.heif(Image.fromarray(rgb)), np.uint8),
    "rgb10.heic": lambda rgb: np.frombuffer(made.deep_heif(rgb.astype(np.uint16) * 257), np.uint8),
}
KINDS = {
    kind: make
    for kind, make in KINDS.items()
    if formats.missing_reader(formats.INPUT_SUFFIXES[Path(kind).suffix]) is None  # what this installation reads
}


@pytest.fixture(scope="module")
def measured(models, astronaut, tmp_path_factory):
    """What the process of each kind printed: status, peak, estimate and activations. And what all wrote to stderr."""
    folder = tmp_path_factory.mktemp("large")
    face = cv2.resize(astronaut[..., ::-1], (1500, 1500))
    large = np.full((3000, 4000, 3), 128, np.uint8)
    large[:1500, :1500] = face
    for kind, encoded in KINDS.items():
        (folder / kind).write_bytes(encoded(large).tobytes())
    cv2.imwrite(str(folder / "small.png"), face[::4, ::4])
    weights = (models / "red-256.pth", models / "detection_mobilenet0.25_Final.safetensors")
    command = [sys.executable, "-c", CODE, *weights, folder, folder / "small.png", *KINDS]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    rows = (line.split() for line in done.stdout.splitlines())
    return {kind: row for kind, *row in rows}, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not os.access("/proc/self/clear_refs", os.W_OK), reason="Linux tells peaks")
@pytest.mark.parametrize("kind", KINDS)
def test_no_image_takes_more_than_was_estimated(measured, kind):
    rows, said = measured
    assert kind in rows, said
    status, peak, estimated, activations = rows[kind]
    print(f"\n{kind}: {int(peak) / 12e6:.1f} bytes a pixel, estimated {int(estimated) / 12e6:.1f}")
    assert status == "restored" and int(estimated) / 4 < int(peak) < int(estimated) + int(activations)
