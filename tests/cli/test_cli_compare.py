"""`gpen compare`, and `gpen restore --model auto` with the looks that it can be asked for."""

import json

import numpy as np
import pytest
from cli_fixtures import DETECTOR, file_names, pixels

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def compare(gpen, models):
    def run(photo, *arguments):
        where = ("--detector", "retinaface_mobile0.25", "--models-dir", models, "--device", "cpu", "--offline")
        return gpen("compare", photo, *where, *arguments)

    return run


@pytest.mark.slow
def test_a_sheet_is_written(compare, face, tmp_path):
    out = tmp_path / "sheet.png"
    ran = compare(face, "-o", out, "--models", "red-256,identity-256", "--strengths", "0,1", "--mask-types", "feather")
    assert ran.status == 0 and str(out) in ran.out
    sheet = pixels(out)
    assert f"{sheet.shape[1]}x{sheet.shape[0]} px" in ran.out and file_names(tmp_path) == ["face.png", "sheet.png"]


def test_auto_is_the_default_and_takes_the_network_that_suits_the_face(compare, models, face, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / DETECTOR).write_bytes((models / DETECTOR).read_bytes())
    (folder / "GPEN-BFR-256.pth").write_bytes((models / "red-256.pth").read_bytes())
    sheets = []
    for number, model in enumerate(("auto:256", "gpen-bfr-256")):
        out = tmp_path / f"{number}.png"
        named = ("--models", model, "--mask-types", "feather", "--strengths", "1", "--models-dir", folder)
        assert compare(face, "-o", out, *named).status == 0
        sheets.append(pixels(out))
    assert sheets[0].shape == sheets[1].shape
    differing = (sheets[0] != sheets[1]).any(axis=(0, 2)).nonzero()[0]
    assert len(differing) > 0 and differing.max() < 330  # the row's name alone


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--models", "auto,red-256"), 2, "expected auto alone"),
        ((), 4, "GPEN-BFR-2048.pth"),  # auto, as everywhere
        (("--models", "red-256,red-256"), 2, "each once"),
        (("--models", "no-such-model"), 4, "no-such-model"),
        (("--models", "red-256", "--strengths", "0.5,much"), 2, "strengths is '0.5,much'"),
        (("--models", "red-256", "--strengths", "2"), 2, "strength is 2"),
        (("--models", "red-256", "--mask-types", "round"), 2, "mask_type is 'round'"),
        (("--models", "red-256", "--min-face-size", "5000"), 2, "No face to compare"),
        (("--models", "red-256", "--faces", "0,7"), 1, "there is no face 7: the only face is 0"),
        (("--models", "red-256", "--preserve", "nostrils"), 2, "preserve is 'nostrils'"),
        (("--models", "red-256", "--mask-types", "parse"), 4, "parsing_parsenet.pth"),
        (("--min-identity", "0.5"), 2, "unknown argument: --min-identity"),  # the columns set the strength
    ],
)
def test_what_cannot_be_is_said_and_nothing_written(compare, face, tmp_path, arguments, status, said):
    ran = compare(face, "-o", tmp_path / "sheet.png", *arguments)
    assert ran.status == status and said in ran.err
    assert file_names(tmp_path) == ["face.png"]


@pytest.mark.parametrize("name", ["sheet.heic", "sheet.gif", "sheet.pdf"])
def test_a_sheet_of_a_format_that_is_not_written_is_refused(compare, face, tmp_path, name):
    """It would be a PNG with another suffix, which some programs do not open."""
    ran = compare(face, "-o", tmp_path / name, "--models", "red-256")
    assert "cannot be written. Choose one of .png, " in ran.err and file_names(tmp_path) == ["face.png"]


def test_the_photograph_itself_is_never_overwritten(compare, face):
    before = face.read_bytes()
    assert compare(face, "-o", face, "--models", "red-256").status == 2
    assert face.read_bytes() == before


def test_auto_takes_what_is_there_and_the_report_says_which(restore, face, tmp_path):
    report = tmp_path / "report.json"
    out = tmp_path / "out.png"
    ran = restore(face, "-o", out, "--report", report, "--offline", model="auto:256")
    told = json.loads(report.read_text("utf-8"))
    assert ran.status == 4 and "gpen-bfr" in ran.err.lower()  # none of the released ones is among the models
    assert told["model"] == "auto:256" and "size" not in told and not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--preserve", "eyes,nostrils"), "preserve is 'eyes,nostrils'"),
        (("--grain", "1.5"), "grain is 1.5"),
        (("--mask-expand", "-2"), "mask_expand is -2"),
        (("--upscale", "9"), "upscale is 9"),
    ],
)
def test_looks_that_cannot_be_are_refused_before_anything_is_read(restore, face, tmp_path, arguments, said):
    ran = restore(face, "-o", tmp_path / "out.png", *arguments)
    assert ran.status == 2 and said in ran.err and file_names(tmp_path) == ["face.png"]


def test_a_floor_that_is_no_size_is_a_wrong_use(restore, face, tmp_path):
    ran = restore(face, "-o", tmp_path / "out.png", model="auto:mine.pth")
    assert ran.status == 2 and "auto:mine.pth" in ran.err


@pytest.mark.slow
def test_gray_stays_gray_unless_asked_otherwise(restore, face, tmp_path):
    from PIL import Image

    Image.open(face).convert("L").convert("RGB").save(face)
    spread = {}
    for name, more in (("auto", ()), ("none", ("--color", "none"))):
        out = tmp_path / f"{name}.png"
        assert restore(face, "-o", out, *more).status == 0
        spread[name] = int(np.ptp(pixels(out).astype(int), axis=2).max())
    assert spread["auto"] == 0 and spread["none"] > 30
