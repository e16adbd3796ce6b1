"""`gpen detect`, and what `gpen restore` has to do with finding faces."""

import json
import re
import zlib

import image_files as made
import numpy as np
import pytest
import video_fakes
import video_files
from cli_fixtures import file_names, pixels, write_broken_png
from PIL import Image, PngImagePlugin

from gpen_core.batch import image_io
from gpen_core.tools.demo import images as demo_pictures

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def detect(gpen, models):
    def run(*arguments):
        return gpen("detect", "--detector", "retinaface_mobile0.25", "--models-dir", models, "--device", "cpu", *arguments)

    return run


@pytest.fixture
def group(tmp_path):
    path = tmp_path / "group.png"
    Image.fromarray(demo_pictures.collage()).save(path)
    return path


def test_faces_are_listed_in_order_with_their_boxes(detect, group):
    ran = detect(group)
    first, *rest = ran.out.splitlines()
    assert ran.status == 0 and first == f"{group}: 6 faces (1500x1000 px; detectable faces: about 16 to 1500 px)"
    assert [line.split()[0] for line in rest] == list("012345")
    boxes = [[float(v) for v in line.split()[1].split(",")] for line in rest]
    assert all(x0 < x1 and y0 < y1 for x0, y0, x1, y1 in boxes)
    assert boxes == sorted(boxes, key=lambda box: (box[1] > 500, box[0]))  # by rows
    turned = detect(group, "--order", "left-right").out.splitlines()[1:]
    lefts = [float(line.split()[1].split(",")[0]) for line in turned]
    assert lefts == sorted(lefts)


def test_nothing_is_written_unless_asked(detect, group, tmp_path):
    before = group.read_bytes()
    detect(group)
    assert file_names(tmp_path) == ["group.png"] and group.read_bytes() == before


def test_numbered_images_are_written(detect, group, plain, tmp_path):
    out = tmp_path / "numbered"
    assert detect(group, plain, "-o", out).status == 0
    assert file_names(out) == ["group.png", "people", "people.html", "people.json", "plain.png"]
    drawn, before = pixels(out / "group.png"), pixels(group)
    assert drawn.shape == before.shape and 0.005 < (drawn != before).any(2).mean() < 0.3
    np.testing.assert_array_equal(pixels(out / "plain.png"), pixels(plain))


def test_what_a_numbered_image_is_without_is_said_once(detect, plain, tmp_path):
    data = plain.read_bytes()
    plain.write_bytes(data[:-12] + bytes(4) + b"caBX" + zlib.crc32(b"caBX").to_bytes(4, "big") + data[-12:])
    assert "C2PA" not in detect(plain).err
    ran = detect(plain, "-o", tmp_path / "out.png")
    assert ran.status == 0 and ran.err.count("C2PA manifest") == 1 and str(plain) in ran.err


def test_warnings_about_images_name_them(detect, tmp_path, caplog):
    """The second is a PNG whose text a JPEG cannot hold."""
    data = made.encode_image(Image.new("RGB", (64, 48)), "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    first, second = tmp_path / "first.png", tmp_path / "second.jpg"
    first.write_bytes(data)
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Anna")
    second.write_bytes(made.encode_image(Image.new("RGB", (64, 48)), "PNG", pnginfo=text))
    ran = detect(first, second, "-o", tmp_path / "out")
    assert f"{first}: The EXIF block is damaged; left out." in [record.getMessage() for record in caplog.records]
    assert f"gpen: {second}: JPEG cannot store PNG text (Author); left out." in ran.err


def test_every_kind_of_image_can_be_numbered(detect, astronaut, tmp_path):
    gray = Image.fromarray(astronaut).convert("L")
    gray.save(tmp_path / "a.jpg")
    gray.convert("LA").save(tmp_path / "b.png")
    Image.fromarray(np.asarray(gray).astype(np.uint16) * 257).save(tmp_path / "c.tiff")
    out = tmp_path / "out"
    ran = detect(tmp_path / "a.jpg", tmp_path / "b.png", tmp_path / "c.tiff", "-o", out)
    assert ran.status == 0 and ran.out.count(": 1 face (") == 3
    assert all(np.asarray(Image.open(out / name)).shape == (512, 512, 3) for name in ("a.jpg", "b.png", "c.tiff"))


def test_an_input_is_never_overwritten(detect, group, tmp_path):
    ran = detect(group, "-o", tmp_path)
    assert ran.status == 2 and "would be overwritten" in ran.err


@pytest.mark.parametrize(("others", "status"), [(True, 1), (False, 3)])
def test_what_is_no_image_is_said_and_the_others_are_listed(detect, group, tmp_path, others, status):
    bad = write_broken_png(tmp_path / "bad.png")
    ran = detect(bad, *([group] if others else []))
    assert ran.status == status and "bad.png" in ran.err
    assert ("6 faces" in ran.out) == others


def test_nothing_to_look_at_is_said(detect, tmp_path):
    (tmp_path / "empty").mkdir()
    assert detect(tmp_path / "empty").status == 3


@pytest.mark.parametrize("arguments", [("--angles", "some"), ("--detection-size", "1"), ("--confidence", "2"), ()])
def test_usage(gpen, group, models, arguments):
    ran = gpen("detect", *([group, *arguments] if arguments else []), "--models-dir", models)
    assert ran.status == 2


# In `gpen restore`


def test_the_report_says_which_sizes_could_be_found(restore, group, tmp_path):
    assert restore(group, "-o", tmp_path / "out.png", "--report", tmp_path / "report.json", "--strength", 0).status == 0
    told = json.loads((tmp_path / "report.json").read_text())
    (one,) = told["inputs"]
    assert one["smallest_face_px"] == 16 and one["largest_face_px"] == 1500
    assert told["options"]["angles"] == "auto"


@pytest.mark.slow
def test_a_box_without_a_face_is_said_by_its_number(restore, group, tmp_path):
    report = tmp_path / "report.json"
    boxes = "200,150,460,460;5,950,30,990"
    ran = restore(group, "-o", tmp_path / "out.png", "--report", report, "--boxes", boxes)
    (one,) = json.loads(report.read_text())["inputs"]
    assert one["notes"] == ["no face was found in box 1 (5, 950, 30, 990)"]
    assert one["notes"][0] in ran.err and ran.status == 0
    assert [face["restored"] for face in one["faces"]].count(True) == 1


@pytest.mark.parametrize("boxes", ["", ";", "1,2,3", "1,2,3,4,5", "a,b,c,d"])
@pytest.mark.slow
def test_boxes_that_cannot_be_are_a_usage_error(restore, group, tmp_path, boxes):
    ran = restore(group, "-o", tmp_path / "out.png", "--boxes", boxes)
    assert ran.status == 2 and "X0,Y0,X1,Y1" in ran.err


def test_a_box_of_nan_is_refused_with_its_number(restore, group, tmp_path):
    ran = restore(group, "-o", tmp_path / "out.png", "--boxes", "1,2,3,4;nan,1,2,3")
    assert ran.status == 3 and "Box 1 is (nan, 1.0, 2.0, 3.0)" in ran.err
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("error", "status", "said"), [(MemoryError(), 5, "not enough memory"), (ValueError("a bug"), 1, "Unexpected ValueError")]
)
def test_an_error_of_one_image_is_its_own_and_ends_as_restore_does(detect, group, plain, monkeypatch, error, status, said):
    read = image_io.read

    def fails(place, *more):
        if str(place) == str(group):
            raise error
        return read(place, *more)

    monkeypatch.setattr(image_io, "read", fails)
    ran = detect(group, plain)
    assert ran.status == status and said in ran.err and str(group) in ran.err
    assert str(plain) in ran.out


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mkv"
    pictures = [*video_fakes.frames(8), *(np.ascontiguousarray(255 - frame[::-1]) for frame in video_fakes.frames(4))]
    return video_files.write_video(path, 12, video_fakes.SIZE, "ffv1", rate=4, pictures=pictures)


def test_the_people_of_a_video_are_listed(detect, film, plain, tmp_path):
    ran = detect(film, plain)
    first, person, second, *images = ran.out.splitlines()
    assert ran.status == 0 and first == f"{film}: 2 people (240x192 px, 12 frames, 1 cut)"
    assert re.fullmatch(r"   0  0:00\.0-0:01\.8   +\d+ px", person) and second.startswith("   1  0:02.0-0:02.8 ")
    assert images[0].startswith(f"{plain}: 0 faces") and file_names(tmp_path) == ["film.mkv", "plain.png"]


def test_a_video_is_restored_with_the_faces_that_were_listed(detect, gpen, models, film, tmp_path):
    out = tmp_path / "people"
    ran = detect(film, "-o", out)
    assert ran.status == 0 and f"{out / 'film.mkv.people.html'}: 2 people" in ran.out
    assert file_names(out) == ["film.mkv.people", "film.mkv.people.html", "film.mkv.people.json", "tracks"]
    assert pixels(out / "film.mkv.people" / "0" / "gpen-face-0.jpg").shape == (160, 160, 3)
    page = (out / "film.mkv.people.html").read_text()
    assert "0:00.0-0:01.8" in page and f"-o restored.mkv --faces 0 --tracks {out}" in page
    named = ("--model", "red-256", "--detector", "retinaface_mobile0.25", "--models-dir", models, "--offline")
    run = ("video", film, "-o", tmp_path / "out.mkv", "--tracks", out, "--device", "cpu", *named)
    ran = gpen(*run, "--faces", "0")
    assert ran.status == 0 and "2 people: 1 restored, 1 skipped" in ran.out
    assert "because SFace is not downloaded" in ran.err and ran.err.count("\n") == 1
    ran = gpen(*run, "--confidence", "0.8")
    assert ran.status == 3 and "were made with another confidence" in ran.err
    assert gpen(*run, "--preview", 2).status == 2


def test_a_video_that_can_be_read_but_not_written_has_people_too(detect, film, tmp_path):
    recording = film.rename(tmp_path / "film.wmv")
    ran = detect(recording, "-o", tmp_path / "people")
    assert ran.status == 0 and ran.out.startswith(f"{recording}: 2 people")
    assert "-o restored.mp4 --faces 0" in (tmp_path / "people" / "film.wmv.people.html").read_text()


def test_the_faces_of_a_video_need_a_folder(detect, film, plain):
    ran = detect(film, "-o", plain)
    assert ran.status == 2 and "is not a local folder" in ran.err


def test_a_video_that_cannot_be_read_is_said_before_anything_is_loaded(gpen, tmp_path):
    broken = tmp_path / "clip.mp4"
    broken.write_bytes(b"\0\0\0\x20ftypisom")
    ran = gpen("detect", broken, "--models-dir", tmp_path / "none", "--offline")
    assert ran.status == 3 and ran.err.startswith(f"gpen: {broken}") and ran.err.count("\n") == 1


def test_a_video_that_cannot_be_read_does_not_stop_the_others(detect, film, plain, tmp_path):
    broken = tmp_path / "clip.mp4"
    broken.write_bytes(b"\0\0\0\x20ftypisom")
    ran = detect(broken, film, plain)
    assert ran.status == 1 and ran.err.count("clip.mp4") == 1
    assert f"{film}: 2 people" in ran.out and f"{plain}: 0 faces" in ran.out


def test_a_video_that_cannot_be_looked_at_is_one_message(detect):
    name = "n" * 300 + ".mkv"
    ran = detect(name)
    assert ran.status == 3 and ran.err.startswith(f"gpen: {name} cannot be read: ")


def test_videos_of_one_name_are_not_listed_into_one_folder(detect, film, tmp_path):
    other = tmp_path / "other" / film.name
    other.parent.mkdir()
    other.write_bytes(film.read_bytes())
    ran = detect(film, other, "-o", tmp_path / "out")
    assert ran.status == 2 and f"{film} and {other} would both become {tmp_path / 'out' / film.name}.people.html" in ran.err
    assert not (tmp_path / "out").exists()
    assert detect(film, other).out.count(": 2 people (") == 2


def test_a_video_that_is_named_twice_is_listed_once(detect, film, tmp_path):
    ran = detect(film, tmp_path / ".." / tmp_path.name / film.name, film, "-o", tmp_path / "out")
    assert ran.status == 0 and ran.out.count(": 2 people (") == 1


def test_a_folder_without_images_beside_a_video_is_one_failed_input(detect, film, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    ran = detect(film, empty)
    assert ran.status == 1 and ran.out.count(": 2 people (") == 1 and f"in {empty}.\n" in ran.err
    assert detect(empty).status == detect(tmp_path / "missing.png", empty).status == 3
