"""`gpen restore` with the image before a face swap, and with an enlarged background."""

import json

import numpy as np
import pytest
from cli_fixtures import file_names, pixels, write_broken_png
from PIL import Image

from gpen_core.batch.job_plan import JobPlan
from gpen_core.batch.output_names import OutputSpec
from gpen_core.batch.sources import InputItem

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def swapped(tmp_path, portrait):
    """The portrait with its inner face mirrored and darkened."""
    changed = portrait.copy()
    changed[60:190, 75:185] = (changed[60:190, 75:185][:, ::-1] * 0.6).astype(np.uint8)
    path = tmp_path / "swapped.png"
    Image.fromarray(changed).save(path)
    return path


def told(path):
    (entry,) = json.loads(path.read_text("utf-8"))["inputs"]
    return entry


@pytest.mark.slow
def test_a_swapped_face_is_restored(restore, face, swapped, tmp_path):
    ran = restore(swapped, "-o", tmp_path / "out.png", "--before-swap", face, "--report", tmp_path / "report.json")
    assert ran.status == 0
    (found,) = told(tmp_path / "report.json")["faces"]
    assert found["restored"] and found["change"] > 0.2


def test_a_face_that_is_the_same_is_not(restore, face, tmp_path):
    small = tmp_path / "small.jpg"
    Image.open(face).resize((128, 128)).save(small, quality=80)
    ran = restore(face, "-o", tmp_path / "out.png", "--before-swap", small, "--report", tmp_path / "report.json")
    assert ran.status == 0 and (tmp_path / "out.png").read_bytes() == face.read_bytes()
    (found,) = told(tmp_path / "report.json")["faces"]
    assert "not changed by the swap" in found["reason"] and found["change"] < 0.2


def test_the_background_gives_size_and_metadata(restore, face, tmp_path):
    large = tmp_path / "large.jpg"
    exif = Image.Exif()
    exif[0x010E] = "the large one"
    Image.open(face).resize((512, 512)).save(large, quality=95, exif=exif)
    ran = restore(face, "-o", tmp_path / "out.jpg", "--background", large)
    assert ran.status == 0
    with Image.open(tmp_path / "out.jpg") as out:
        assert out.size == (512, 512) and out.getexif()[0x010E] == "the large one"
    change = pixels(tmp_path / "out.jpg").astype(int) - pixels(large)
    assert change[220:240, 240:260, 0].mean() > 30 and abs(change[-20:]).mean() < 3  # red in the face alone


def test_without_a_face_the_background_is_copied(restore, plain, tmp_path):
    Image.new("RGB", (128, 96), (1, 2, 3)).save(tmp_path / "large.png")
    assert restore(plain, "-o", tmp_path / "out.png", "--background", tmp_path / "large.png").status == 0
    assert (tmp_path / "out.png").read_bytes() == (tmp_path / "large.png").read_bytes()


def test_a_folder_of_originals_by_name(restore, face, swapped, tmp_path):
    originals = tmp_path / "originals"
    originals.mkdir()
    for name in ("FACE.jpg", "swapped.jpg"):
        Image.open(face).save(originals / name, quality=95)
    out = tmp_path / "out"
    ran = restore(face, swapped, "-o", out, "--before-swap", originals, "--report", tmp_path / "report.json")
    statuses = [entry["status"] for entry in json.loads((tmp_path / "report.json").read_text("utf-8"))["inputs"]]
    assert ran.status == 0 and statuses == ["unchanged", "restored"]


@pytest.mark.parametrize("option", ["--before-swap", "--background", "--region-mask"])
@pytest.mark.slow
def test_of_two_companions_of_one_name_that_of_the_images_kind_is_taken_else_none(restore, face, tmp_path, option):
    folder = tmp_path / "companions"
    folder.mkdir()
    for suffix in (".jpg", ".webp"):
        Image.open(face).save(folder / f"face{suffix}")
    ran = restore(face, "-o", tmp_path / "out.png", option, folder)
    assert ran.status == 2 and "face.jpg, face.webp" in ran.err and not (tmp_path / "out.png").exists()
    Image.open(face).save(folder / "Face.PNG")
    assert restore(face, "-o", tmp_path / "out.png", option, folder).status == 0
    with JobPlan([InputItem.from_location(face)], OutputSpec(tmp_path / "out.png", before_swap=folder)) as planned:
        assert [job.before_swap for job in planned] == [folder / "Face.PNG"]


@pytest.mark.parametrize("option", ["--before-swap", "--background", "--region-mask"])
def test_companions_that_do_not_fit_are_a_usage_error(restore, face, plain, tmp_path, option):
    ran = restore(face, plain, "-o", tmp_path / "out", option, face)
    assert ran.status == 2 and "is one file for 2 images" in ran.err
    (tmp_path / "empty").mkdir()
    ran = restore(face, plain, "-o", tmp_path / "out", option, tmp_path / "empty")
    assert ran.status == 2 and "face.png, plain.png" in ran.err
    ran = restore(face, "-o", plain, option, plain)
    assert ran.status == 2 and "would be overwritten" in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--before-swap", "--background", "--region-mask"])
@pytest.mark.slow
def test_companions_that_cannot_be_used_fail_the_image(restore, face, plain, tmp_path, option):
    for companion, problem in (
        (write_broken_png(tmp_path / "b.png"), "b.png"),
        (tmp_path / "none.png", "none.png"),
        (plain, "64x48"),
    ):
        ran = restore(face, "-o", tmp_path / "out.png", option, companion)
        assert ran.status == 3 and problem in ran.err
    assert "out.png" not in file_names(tmp_path)


@pytest.mark.slow
def test_a_mask_limits_what_is_restored(restore, face, tmp_path):
    before = pixels(face)
    mask = np.zeros((128, 128), np.uint8)
    mask[:, :64] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    ran = restore(face, "-o", tmp_path / "out.png", "--region-mask", tmp_path / "mask.png")
    changed = (pixels(tmp_path / "out.png") != before).any(2)
    assert ran.status == 0 and changed[:, :120].any() and not changed[:, 132:].any()
    Image.fromarray(mask * 0).save(tmp_path / "mask.png")
    report = tmp_path / "report.json"
    assert restore(face, "-o", tmp_path / "out.png", "--region-mask", tmp_path / "mask.png", "--report", report).status == 0
    assert json.loads(report.read_text("utf-8"))["inputs"][0]["faces"][0]["reason"] == "outside the mask"
    assert np.array_equal(pixels(tmp_path / "out.png"), before)
