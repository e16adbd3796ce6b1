"""People chosen by photos on the command line."""

import json
import shutil

import numpy as np
import pytest
import video_files
from cli_fixtures import pixels
from PIL import Image

from gpen_core import cli

pytest_plugins = ["cli_fixtures", "people"]

BLUE = np.array([0.3, 0.5, 1.6])  # gives the same face another embedding: it is the layout of its colors


@pytest.fixture
def faces(tmp_path, portrait, models, pin_embedder):
    """Two photos of a person and one of somebody else; the embedder is in the models folder."""
    path = pin_embedder(models)
    for name, image in (
        ("photo.png", portrait),
        ("reference.jpg", portrait[8:]),
        ("other.png", np.clip(portrait * BLUE, 0, 255).astype(np.uint8)),
        ("nobody.png", np.full((64, 64, 3), 90, np.uint8)),
        ("both.png", np.hstack([portrait, portrait])),
    ):
        Image.fromarray(image).save(tmp_path / name)
    yield tmp_path
    path.unlink()


def is_changed(out, source):
    return bool((pixels(out) != pixels(source)).any())


def test_a_person_is_chosen_by_a_photo(restore, faces):
    out, report = faces / "out", faces / "report.json"
    inputs = [faces / name for name in ("photo.png", "other.png", "nobody.png")]
    ran = restore(*inputs, "-o", f"{out}/", "--faces", f"like:{faces / 'reference.jpg'}", "--report", report)
    assert ran.status == 0
    assert [is_changed(out / one.name, one) for one in inputs] == [True, False, False]
    assert "no face is like" in ran.err and "reference.jpg: the closest is face 0 with" in ran.err
    told = json.loads(report.read_text())
    ((chosen,), (other,), none) = (one["faces"] for one in told["inputs"])
    assert chosen["restored"] and 0 < chosen["identity"] < 1 and chosen["similarity"] > 0.9
    assert chosen["similarity_restored"] != chosen["similarity"]
    assert not other["restored"] and other["similarity"] < 0.363 and other["identity"] is None and none == []
    assert told["options"]["faces"] == [f"like:{faces / 'reference.jpg'}"]
    assert len(told["references"][f"like:{faces / 'reference.jpg'}"]) == 64


def test_faces_may_be_given_several_times(restore, faces):
    named = ("--faces", "0", "--faces", f"not:{faces / 'reference.jpg'}")
    for name, expected in (("photo.png", False), ("other.png", True)):
        assert restore(faces / name, "-o", faces / "out.png", *named).status == 0
        assert is_changed(faces / "out.png", faces / name) is expected


@pytest.mark.parametrize(
    ("reference", "status", "message"),
    [
        (
            "nobody.png",
            3,
            "nobody.png is not a photo of one person: no face was found in it. Crop it, or use another photo.",
        ),
        ("both.png", 3, "both.png is not a photo of one person: it has 2 faces. Crop it, or use another photo."),
        ("missing.png", 3, "missing.png"),
        ("", 2, "faces is 'like:'; expected all, largest, center, numbers from 0"),
    ],
)
def test_a_bad_reference_restores_nothing(restore, faces, reference, status, message):
    path = faces / reference if reference else ""
    ran = restore(faces / "photo.png", "-o", faces / "out.png", "--faces", f"like:{path}")
    assert ran.status == status and message in ran.err and not (faces / "out.png").exists()
    assert len(ran.err.strip().splitlines()) == 1


def test_a_missing_embedder_is_one_sentence(restore, faces, models):
    for path in models.glob("face_recognition*"):
        path.unlink()
    ran = restore(faces / "photo.png", "-o", faces / "out.png", "--faces", f"like:{faces / 'reference.jpg'}", "--offline")
    assert ran.status == 4 and not (faces / "out.png").exists()
    assert "face_recognition_sface_2021dec.onnx (telling people apart) is not in" in ran.err
    (models / "face_recognition_sface_2021dec.onnx").write_bytes(b"for the fixture to delete")


@pytest.mark.parametrize("name", ["face_recognition_sface_2021dec.onnx", "face_recognition_sface_2021dec.safetensors"])
def test_a_file_with_another_digest_is_never_read(restore, faces, models, pin_embedder, monkeypatch, name):
    monkeypatch.setattr("cv2.dnn.readNetFromONNX", lambda *args: pytest.fail("the file was read"))
    path = pin_embedder(models, b"another network")
    path.rename(models / name)
    try:
        ran = restore(faces / "photo.png", "-o", faces / "out.png", "--faces", f"like:{faces / 'reference.jpg'}")
    finally:
        (models / name).rename(path)
    assert ran.status == 4 and "was refused" in ran.err and not (faces / "out.png").exists()


def test_a_report_measures_identity_only_where_the_embedder_is(restore, faces, models):
    for is_there in (True, False):
        if not is_there:
            (models / "face_recognition_sface_2021dec.onnx").rename(models / "away")
        assert restore(faces / "photo.png", "-o", faces / "out.png", "--report", faces / "report.json").status == 0
        ((face,),) = (one["faces"] for one in json.loads((faces / "report.json").read_text())["inputs"])
        assert (face["identity"] is not None) is is_there
    (models / "away").rename(models / "face_recognition_sface_2021dec.onnx")


def test_a_run_that_resumes_with_other_photos_says_so(restore, faces, caplog):
    arguments = (faces / "photo.png", "-o", f"{faces / 'out'}/", "--report", faces / "r.jsonl", "--skip-existing")
    named = ("--faces", f"like:{faces / 'reference.jpg'}")
    assert restore(*arguments, *named).status == 0
    assert restore(*arguments, *named).status == 0
    assert "made with other settings" not in caplog.text
    Image.open(faces / "photo.png").save(faces / "reference.jpg", quality=80)
    assert restore(*arguments, *named).status == 0
    assert "made with other settings (references: " in caplog.text


def test_the_embedder_is_listed_and_verified(gpen, faces, models):
    ran = gpen("models", "--models-dir", models, "--verify")
    (line,) = (line for line in ran.out.splitlines() if line.startswith("sface"))
    assert "OK: the catalog's SHA-256" in line
    (line,) = (line for line in gpen("models", "--models-dir", models).out.splitlines() if line.startswith("sface"))
    assert "SHA-256 known: checked on every load" in line
    assert cli.main(["download", "sface", "--models-dir", str(models)]) == 0


def test_the_embedder_is_no_model_and_needs_no_conversion(restore, gpen, faces, models):
    ran = restore(faces / "photo.png", "-o", faces / "out.png", model="sface")
    assert ran.status == 4 and "sface is a face embedder, not a model" in ran.err
    ran = gpen("convert", "sface", "--models-dir", models)
    assert ran.status == 2 and "is used as it is. It needs no conversion." in ran.err


def test_a_number_is_a_person_in_all_shots(gpen, faces, models):
    """Two people in turn; the sheet, the list and `--faces` go by people, not by shots."""
    one, other = (np.asarray(Image.open(faces / name)) for name in ("photo.png", "other.png"))
    photos = [
        np.pad(one, ((0, 0), (0, 144), (0, 0)), constant_values=20),
        np.pad(other[:, ::-1], ((0, 0), (144, 0), (0, 0)), constant_values=200),
    ]
    film, people = faces / "film.mkv", faces / "people"
    video_files.write_video(
        film, 16, photos[0].shape[1::-1], "ffv1", rate=4, pictures=[photos[n // 4 % 2] for n in range(16)]
    )
    named = ("--detector", "retinaface_mobile0.25", "--models-dir", models, "--offline", "--device", "cpu")
    ran = gpen("detect", film, "-o", people, *named)
    first, anna, other, *_ = ran.out.splitlines()
    assert ran.status == 0 and first.startswith(f"{film}: 2 people ") and "film.mkv.people.html: 2 people" in ran.out
    assert anna.startswith("   0  0:00.0-0:00.8, 0:02.0-0:02.8 ") and other.startswith("   1  0:01.0-0:01.8, 0:03.0-0:03.8 ")
    assert "4 faces were joined to 2 people by SFace" in ran.err
    listed = json.loads((people / "film.mkv.people.json").read_text())["people"]
    assert [one["times"] for one in listed] == [[[0, 0.75], [2, 2.75]], [[1, 1.75], [3, 3.75]]]
    out, report = faces / "out.mkv", faces / "report.json"
    ran = gpen("video", film, "-o", out, "--faces", 0, "--tracks", people, "--model", "red-256", "--report", report, *named)
    assert ran.status == 0
    tracks = json.loads(report.read_text())["tracks"]
    assert [one["person"] for one in tracks] == [0, 1, 0, 1] and [one["restored"] for one in tracks] == [4, 0, 4, 0]
    ran = gpen("detect", film, "-o", people, "--join-people", "off", *named)  # with the same tracks
    assert ran.status == 0 and ": 4 people" in ran.out and ran.err == ""
    (models / "face_recognition_sface_2021dec.onnx").rename(models / "away")
    shutil.copytree(people, faces / "again", ignore=shutil.ignore_patterns("people.json"))  # nobody was compared yet
    ran = gpen("detect", film, "-o", faces / "again", *named)
    (models / "away").rename(models / "face_recognition_sface_2021dec.onnx")
    assert ": 4 people" in ran.out and "because SFace is not downloaded." in ran.err and "gpen download sface" in ran.err


def test_the_identity_of_a_person_is_kept_in_a_video(gpen, faces, models):
    photo = np.asarray(Image.open(faces / "photo.png"))
    film, out, report = faces / "film.mkv", faces / "out.mkv", faces / "report.json"
    video_files.write_video(film, 3, photo.shape[1::-1], "ffv1", rate=4, pictures=[photo] * 3)
    named = ("--detector", "retinaface_mobile0.25", "--models-dir", models, "--offline", "--device", "cpu")
    ran = gpen("video", film, "-o", out, "--min-identity", 1, "--model", "red-256", "--report", report, *named)
    assert ran.status == 0 and "1 person: 0 restored, 1 skipped" in ran.out + ran.err
    assert "its identity would not be kept: " in ran.out + ran.err
    (track,) = json.loads(report.read_text())["tracks"]
    assert track["restored"] == 0 and track["strength"] is None and 0.3 < track["identity"] < 1


@pytest.fixture
def archive(faces):
    """Folders with photos, and a file that is none. The person of `photo.png` is in three of them, twice in one."""
    photos = faces / "photos"
    (photos / "more").mkdir(parents=True)
    for name in ("photo.png", "reference.jpg", "both.png", "nobody.png"):
        (faces / name).rename(photos / name)
    (faces / "other.png").rename(photos / "more" / "other.png")
    (photos / "broken.jpg").write_bytes(b"no image")
    return photos


@pytest.fixture
def listing(gpen, models, archive):
    def run(*arguments):
        named = ("--detector", "retinaface_mobile0.25", "--models-dir", models, "--offline", "--device", "cpu")
        return gpen("detect", archive, "--recursive", "-o", archive.parent / "seen", *named, *arguments)

    return run


def listed_people(folder):
    found = json.loads((folder / "people.json").read_text())["people"]
    return [sorted((one["file"].rpartition("photos/")[2], one["face"]) for one in person["faces"]) for person in found]


def test_a_folder_gets_a_page_of_its_people(listing, restore, archive, tmp_path):
    seen = tmp_path / "seen"
    ran = listing()
    assert ran.status == 1 and ran.err.count("broken.jpg") == 1
    assert f"{seen / 'people.html'}: 3 people in 5 images" in ran.out
    first, second, third = listed_people(seen)
    assert first[-2:] == [("photo.png", 0), ("reference.jpg", 0)] and first[0] in (("both.png", 0), ("both.png", 1))
    assert sorted([second, third]) == [[("both.png", 1 - first[0][1])], [("more/other.png", 0)]]
    page = (seen / "people.html").read_text()
    assert (
        'href="more/other.png"' in page
        and "broken.jpg" in page
        and f"gpen restore {archive} --recursive -o restored/" in page
    )
    listed = json.loads((seen / "people.json").read_text())
    assert listed["joined"] and [one["file"] for one in listed["failed"]] == [str(archive / "broken.jpg")]
    assert all(len(face["box"]) == 4 for person in listed["people"] for face in person["faces"])

    out = tmp_path / "out"  # go on from the page
    inputs = [archive / name for name in ("photo.png", "more/other.png")]
    others = (second + third).index(("more/other.png", 0)) + 1
    for number, changed in ((0, [True, False]), (others, [False, True])):
        assert restore(*inputs, "-o", f"{out}/", "--faces", f"like:{seen / 'people' / str(number)}").status == 0
        assert [is_changed(out / one.name, one) for one in inputs] == changed


def test_without_the_embedder_the_faces_of_a_folder_are_not_joined(listing, models, tmp_path):
    for path in models.glob("face_recognition*"):
        path.rename(models / "away")
    try:
        ran, forced, off = listing(), listing("--join-people", "on"), listing("--join-people", "off")
    finally:
        (models / "away").rename(models / "face_recognition_sface_2021dec.onnx")
    assert "a person may have another number in each image, because SFace is not downloaded." in ran.err
    assert ran.status == off.status == 1 and ": 5 people in 5 images" in ran.out and "SFace" not in off.err
    assert not json.loads((tmp_path / "seen" / "people.json").read_text())["joined"]
    assert forced.status == 4 and "face_recognition_sface_2021dec.onnx" in forced.err.splitlines()[-1]


def test_one_image_has_no_page(gpen, models, faces, tmp_path):
    named = ("--detector", "retinaface_mobile0.25", "--models-dir", models, "--offline", "--device", "cpu")
    for out in ("seen.png", "seen/"):
        assert gpen("detect", faces / "photo.png", "-o", f"{tmp_path / out}", *named).status == 0
    assert [path.name for path in (tmp_path / "seen").iterdir()] == ["photo.png"]
    assert not (tmp_path / "people.html").exists()


def test_no_image_is_written_among_the_faces_of_people(listing, archive):
    (archive / "more").rename(archive / "people")
    ran = listing()
    assert ran.status == 2 and "would be among the faces of the people in" in ran.err
