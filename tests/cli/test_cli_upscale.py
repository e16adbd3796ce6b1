"""`gpen restore --upscale`."""

import json

import cli_fixtures
import helpers
import image_files as made
import numpy as np
import pytest
import rrdb
import torch
from PIL import Image

from gpen_core.images import codecs
from gpen_core.images.image import to_image_data
from gpen_core.pipeline import rrdb as networks
from gpen_core.pipeline.upscale import upscale
from gpen_core.progress import no_progress

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def nearest(tmp_path):
    folder = tmp_path / "upscalers"
    helpers.write_weights(folder, {"nearest.safetensors": rrdb.nearest_weights()})
    return folder / "nearest.safetensors"


def report_of(path):
    (told,) = json.loads(path.read_text("utf-8"))["inputs"]
    return told


def test_the_image_becomes_larger_and_its_face_is_restored(restore, face, tmp_path):
    out, report = tmp_path / "out.png", tmp_path / "report.json"
    assert restore(face, "-o", out, "--upscale", 1.5, "--report", report).status == 0
    told = report_of(report)
    assert (told["status"], told["width"], told["height"]) == ("restored", 384, 384) and told["seconds"]["upscale"] > 0
    photo = cli_fixtures.pixels(face)
    larger = upscale(to_image_data(photo), 1.5, None, no_progress).to_input_type()
    got = cli_fixtures.pixels(out)
    assert got.shape == (384, 384, 3) and np.array_equal(got[-20:], larger[-20:]) and not np.array_equal(got, larger)


def test_without_a_face_it_is_written_enlarged_and_said_to_be_so(restore, plain, nearest, tmp_path):
    pytest.importorskip("spandrel")
    out, report = tmp_path / "out.png", tmp_path / "report.json"
    assert restore(plain, "-o", out, "--upscale", 4, "--upscaler", nearest, "--report", report).status == 0
    told = report_of(report)
    assert (told["status"], told["width"], told["height"], told["faces"]) == ("enlarged", 256, 192, [])
    assert np.array_equal(cli_fixtures.pixels(out), np.full((192, 256, 3), (90, 120, 150)))


def test_in_place_and_what_the_file_says_of_its_size(restore, tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (64, 48), (9, 99, 200)).save(path, exif=made.exif_of_size(64, 48), dpi=(300, 300))
    assert restore(path, "--in-place", "--upscale", 2).status == 0
    with Image.open(path) as image:
        assert image.size == (128, 96) and image.info["dpi"] == (300, 300)
        assert dict(image.getexif().get_ifd(made.EXIF)) == {0xA002: 128, 0xA003: 96, 0x9000: b"0230"}


def test_sixteen_bits_and_alpha_are_kept(restore, tmp_path):
    rgba = np.full((20, 30, 4), 40_000, np.uint16)
    source = tmp_path / "a.png"
    source.write_bytes(codecs.encode(codecs.EncodedImage(to_image_data(rgba), codecs.Metadata(), "PNG", False), "PNG"))
    assert restore(source, "-o", tmp_path / "b.tif", "--upscale", 3).status == 0
    assert np.array_equal(cli_fixtures.pixels(tmp_path / "b.tif"), np.full((60, 90, 4), 40_000, np.uint16))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--upscale", 2, "--background", "face.png"), "Use one of them"),
        (("--upscaler", "realesrnet_x2"), "needs a factor"),
        (("--upscale", 9), "at most 8"),
        (("--upscale", 0.5), "at least 1"),
    ],
)
def test_what_contradicts_is_a_usage_error(restore, face, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    ran = restore(face, "-o", tmp_path / "out.png", *arguments)
    assert ran.status == 2 and told in ran.err and cli_fixtures.file_names(tmp_path) == ["face.png"]


def test_an_upscaler_of_another_architecture_is_refused_by_its_name(restore, plain, tmp_path):
    pytest.importorskip("spandrel")
    helpers.write_weights(tmp_path / "models", {"compact.pth": {"body.0.weight": torch.zeros(3, 3, 3, 3)}})
    ran = restore(plain, "-o", tmp_path / "out.png", "--upscale", 2, "--upscaler", tmp_path / "models" / "compact.pth")
    assert ran.status == 4 and "compact.pth: These weights are not an RRDBNet" in ran.err
    ran = restore(plain, "-o", tmp_path / "out.png", "--upscale", 2, "--upscaler", "esrgan")
    assert ran.status == 4 and "Unknown upscaler 'esrgan'" in ran.err
    assert not (tmp_path / "out.png").exists()


def test_a_network_without_a_package_is_refused_and_lanczos_is_not(restore, plain, tmp_path, monkeypatch):
    find = networks.importlib.util.find_spec
    missing = {"spandrel", "basicsr"}
    monkeypatch.setattr(networks.importlib.util, "find_spec", lambda name, *_: None if name in missing else find(name))
    ran = restore(plain, "-o", tmp_path / "out.png", "--upscale", 2, "--upscaler", "realesrnet_x2")
    assert ran.status == 1 and "spandrel" in ran.err and "basicsr" in ran.err and not (tmp_path / "out.png").exists()
    assert restore(plain, "-o", tmp_path / "out.png", "--upscale", 2).status == 0


def test_a_result_beyond_memory_fails_that_image_and_leaves_nothing(restore, plain, tmp_path):
    large = tmp_path / "large.png"
    Image.new("RGB", (1250, 1250)).save(large)
    out = tmp_path / "out"
    ran = restore(large, plain, "-o", out, "--upscale", 8, "--max-memory", "1G")
    assert ran.status == 5 and "large.png: Upscaled to 10000 x 10000 pixels" in ran.err
    assert cli_fixtures.file_names(out) == ["plain.png"] and cli_fixtures.pixels(out / "plain.png").shape == (384, 512, 3)


def test_what_the_format_cannot_hold_is_said_before_it_is_computed(restore, tmp_path, monkeypatch):
    monkeypatch.setattr("gpen_core.pipeline.inputs.upscale", lambda *_: pytest.fail("it was computed"))
    wide = tmp_path / "wide.webp"
    Image.new("RGB", (4100, 20)).save(wide)
    ran = restore(wide, "-o", tmp_path / "out.webp", "--upscale", 4)
    assert ran.status == 1 and "WEBP allows at most 16383 pixels per side, not 16400 x 80" in ran.err
    assert cli_fixtures.file_names(tmp_path) == ["wide.webp"]
