"""`gpen explain`: files in a folder, and what became of each face."""

import numpy as np
import pytest
from cli_fixtures import file_names, pixels

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def explain(gpen, models):
    def run(photo, *arguments):
        where = ("--detector", "retinaface_mobile0.25", "--models-dir", models, "--device", "cpu", "--offline")
        return gpen("explain", photo, "--model", "red-256", *where, *arguments)

    return run


@pytest.mark.slow
def test_every_stage_is_written_and_the_result_is_what_restore_gives(explain, restore, face, tmp_path):
    ran = explain(face, "-o", tmp_path / "way", "--mask-type", "feather")
    assert ran.status == 0 and "face 0: restored at 256 px" in ran.out
    written = file_names(tmp_path / "way")
    assert written[0] == "1-found.png" and written[-1] == "6-sheet.png" and len(written) == 8
    assert all(f"{tmp_path / 'way' / name}: " in ran.out for name in written)
    restore(face, "-o", tmp_path / "out.png", "--mask-type", "feather")
    assert np.array_equal(pixels(tmp_path / "way" / "5-result.png"), pixels(tmp_path / "out.png"))


def test_a_face_that_is_left_alone_is_said_with_its_reason(explain, face, tmp_path):
    ran = explain(face, "-o", tmp_path / "way", "--min-face-size", "5000")
    assert ran.status == 0 and "face 0: skipped (" in ran.out and "6-sheet.png" not in file_names(tmp_path / "way")


def test_an_image_without_faces_has_its_stages_too(explain, plain, tmp_path):
    assert explain(plain, "-o", tmp_path / "way").status == 0
    assert file_names(tmp_path / "way") == ["1-found.png", "2-squares.png", "4-mask.png", "5-result.png"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--mask-type", "parse"), 4, "parsing_parsenet.pth"),
        (("--preserve", "nostrils"), 2, "preserve is 'nostrils'"),
        (("--device", "cuda:77"), 2, "cuda:77"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_written(explain, face, tmp_path, arguments, status, said):
    ran = explain(face, "-o", tmp_path / "way", *arguments)
    assert ran.status == status and said in ran.err and file_names(tmp_path) == ["face.png"]


@pytest.mark.parametrize("name", ["1-found", "2-squares", "3-face-0-cut", "3-face-7-mask", "4-mask", "5-result", "6-sheet"])
def test_the_photograph_itself_is_never_overwritten(explain, face, tmp_path, name):
    photo = face.rename(tmp_path / f"{name}.png")
    before = photo.read_bytes()
    ran = explain(photo, "-o", tmp_path)
    assert ran.status == 2 and f"{photo} is an input and would be overwritten" in ran.err
    assert photo.read_bytes() == before and file_names(tmp_path) == [photo.name] and ran.out == ""


def test_links_to_the_photograph_and_to_its_folder_are_seen_through(explain, face, tmp_path):
    way, other = tmp_path / "way", tmp_path / "other"
    way.mkdir()
    (way / "5-result.png").symlink_to(face)  # what is written goes where a link leads
    other.symlink_to(way, target_is_directory=True)
    before = face.read_bytes()
    for photo, folder in ((face, way), (face, other), (other / "5-result.png", way)):
        ran = explain(photo, "-o", folder)
        assert ran.status == 2 and f"{folder / '5-result.png'} is an input and would be" in ran.err
        assert face.read_bytes() == before and file_names(way) == ["5-result.png"] and (way / "5-result.png").is_symlink()


def test_no_face_of_an_earlier_run_is_left(explain, face, plain, tmp_path):
    way = tmp_path / "way"
    way.mkdir()
    for name in ("3-face-5-cut.png", "3-face-x-cut.png", "holiday.png"):
        (way / name).write_bytes(b"")
    assert explain(plain, "-o", way).status == 0
    assert "3-face-5-cut.png" in file_names(way)  # no run wrote it
    assert explain(face, "-o", way).status == 0
    written = file_names(way)
    assert "3-face-5-cut.png" not in written and {"3-face-0-cut.png", "6-sheet.png"} < set(written)
    assert explain(plain, "-o", way).status == 0
    kept = ["1-found.png", "2-squares.png", "3-face-x-cut.png", "4-mask.png", "5-result.png", "holiday.png"]
    assert file_names(way) == kept


@pytest.mark.slow
def test_the_images_of_another_run_are_replaced(explain, plain, tmp_path):
    for _ in range(2):
        assert explain(plain, "-o", tmp_path / "way").status == 0
    beside = plain.rename(tmp_path / "way" / "face.png")
    assert explain(beside, "-o", tmp_path / "way").status == 0 and len(file_names(tmp_path / "way")) == 5
