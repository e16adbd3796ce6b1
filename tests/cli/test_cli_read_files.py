"""No command overwrites a file that it reads, whichever argument names it."""

import shutil
from pathlib import Path

import pytest
import video_fakes
import video_files
from PIL import Image

pytest_plugins = ["cli_fixtures"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, portrait):
    """A folder with everything that arguments can name. Commands are refused before they read any of it."""
    monkeypatch.chdir(tmp_path)
    for name in ("photo.png", "anna.jpg", "anna/1.png", "frames/000001.png", "masks/film.png", "5-result.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(portrait).save(name)
    Path("list.txt").write_text("photo.png\n")
    Path("mine.pth").write_bytes(b"weights")
    Path("link.png").symlink_to("anna.jpg")
    video_files.write_video(Path("film.mkv"), 2, video_fakes.SIZE, "ffv1")
    video_files.write_video(Path("other.mkv"), 2, video_fakes.SIZE, "ffv1")
    Path("masks/other.mkv").write_bytes(Path("other.mkv").read_bytes())


def contents():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


OVERWRITTEN, AMONG = "is an input and would be overwritten", "would be among the images of an input folder"


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("restore photo.png --faces like:anna.jpg -o anna.jpg", OVERWRITTEN),
        ("restore photo.png --faces not:anna.jpg -o link.png", OVERWRITTEN),
        ("restore photo.png --faces like:anna -o anna/1.png", AMONG),
        ("restore photo.png --faces like:anna -o anna/", AMONG),
        ("restore --input-list list.txt -o out/ --report list.txt", OVERWRITTEN),
        ("restore photo.png -o out/ --report anna.jpg --faces like:anna.jpg", OVERWRITTEN),
        ("restore photo.png --in-place --report anna.jpg --faces like:anna.jpg", OVERWRITTEN),
        ("restore photo.png -o out/ --report mine.pth --model mine.pth", OVERWRITTEN),
        ("restore photo.png -o out/ --report mine.pth --detector mine.pth", OVERWRITTEN),
        ("restore photo.png -o out/ --report mine.pth --upscale 2 --upscaler mine.pth", OVERWRITTEN),
        ("compare photo.png -o anna.jpg --faces like:anna.jpg", OVERWRITTEN),
        ("compare photo.png -o anna/2.jpg --faces like:anna", AMONG),
        ("explain photo.png -o . --faces like:5-result.png", OVERWRITTEN),
        ("explain photo.png -o anna --faces like:anna", AMONG),
        ("video frames/ -o frames/000001.png --preview 2", AMONG),
        ("video frames/ -o frames/out.mp4 --preview 2", AMONG),
        ("video film.mkv -o anna.jpg --preview 2 --faces like:anna.jpg", OVERWRITTEN),
        ("video film.mkv -o masks/film.png --preview 2 --region-mask masks", AMONG),
        ("video film.mkv -o other.mkv --region-mask other.mkv", OVERWRITTEN),
        ("video film.mkv other.mkv -o masks/ --region-mask masks", OVERWRITTEN),
        ("video film.mkv -o out.mkv --region-mask other.mkv --report other.mkv", OVERWRITTEN),
        ("video film.mkv -o out.mkv --faces like:anna.jpg --report anna.jpg", OVERWRITTEN),
    ],
)
def test_a_file_that_an_option_names_is_never_overwritten(gpen, models, command, says):
    before = contents()
    ran = gpen(*command.split(), "--models-dir", models, "--offline")
    assert ran.status == 2 and says in ran.err and contents() == before


def test_faces_of_an_earlier_page_are_not_deleted_if_they_are_inputs(gpen, models):
    arguments = ("--detector", "retinaface_mobile0.25", "--models-dir", models, "--device", "cpu", "--offline")
    for page in ("people", "film.mkv.people"):
        folder = Path("out") / page / "0"
        folder.mkdir(parents=True)
        shutil.copy("anna.jpg", folder / "gpen-face-0.jpg")
    before = contents()
    for inputs in (["out/people/0"], ["film.mkv", "out/film.mkv.people/0"]):
        ran = gpen("detect", *inputs, "-o", "out", *arguments)
        assert ran.status == 2 and f"gpen-face-0.jpg {OVERWRITTEN}" in ran.err and contents() == before
    assert gpen("detect", "photo.png", "anna.jpg", "-o", "out", *arguments).status == 0  # a new page
