"""What `gpen restore` prints of what it did, and what it says before anything is loaded."""

import json
from dataclasses import replace
from pathlib import Path

import helpers
import pytest
from cli_fixtures import file_names, pixels, write_broken_png
from PIL import Image

from gpen_core import GpenError
from gpen_core.batch.job import ImageJob
from gpen_core.cli.report_text import image_lines, number_ranges, seconds_text
from gpen_core.cli.run_summary import GROUP_SIZE, RunSummary
from gpen_core.pipeline.report import ImageOutcome

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def two_faces(tmp_path, portrait):
    """The portrait twice, side by side."""
    path = tmp_path / "two.png"
    image = Image.new("RGB", (512, 256))
    for x in (0, 256):
        image.paste(Image.fromarray(portrait), (x, 0))
    image.save(path)
    return path


def outcome(name, faces=(), status=None, error=None, sizes=(16, 400)):
    files = ImageJob(Path(name), Path("out") / name)
    is_restored = any(face.restored for face in faces)
    status = status or ("failed" if error else "restored" if is_restored else "unchanged")
    ok = status not in ("failed", "skipped")
    return ImageOutcome(
        files, status, error, (640, 480), tuple(faces), sizes if ok else None, seconds={"network": 2.0, "write": 0.5}
    )


def face(restored=True, reason=None):
    return replace(helpers.make_face((25, 30), 60), restored=restored, reason=reason)


def summary_of(outcomes, count=None):
    lines = []
    summary = RunSummary(lines.append, len(outcomes) if count is None else count, "to out")
    for one in outcomes:
        summary.add(one)
    summary.end()
    return lines


# Lines


def test_of_one_image_it_says_why_faces_were_skipped_and_where_the_result_is():
    skipped = [face(False, "not asked for"), face(False, "smaller than the minimum: 20 px, minimum 40 px")]
    (first, *rest) = summary_of([outcome("a.png", [face(), skipped[0], face(), skipped[0], skipped[0], skipped[1]])])
    assert first.startswith(f"{Path('out/a.png')}: 6 faces found, 2 restored, 4 skipped (") and first.endswith(" s)")
    assert rest == [
        "  faces 1,3-4: skipped, not asked for",
        "  face 5: skipped, smaller than the minimum: 20 px, minimum 40 px",
    ]


def test_without_a_face_it_names_the_sizes_that_could_be_found_and_what_to_try():
    first, advice = summary_of([outcome("a.png")])
    assert "no face found, written unchanged" in first
    assert advice == "  detectable faces: about 16 to 400 px. Try a lower confidence"
    _, advice = summary_of([outcome("a.png", sizes=(48, 1200))])
    assert advice.endswith("48 to 1,200 px. Try a lower confidence, or a larger detection size for smaller faces")
    _, advice = summary_of([outcome("a.png", sizes=(16, 1))])
    assert advice == "  detectable faces: about 16 px or more, and the image is smaller"
    advice = summary_of([outcome("a.png", sizes=(16, 1)), outcome("b.png"), outcome("c.png", sizes=(16, 1))])[-1]
    assert advice == "  detectable faces: about 16 to 400 px. Try a lower confidence"


def test_of_a_few_images_each_has_its_line_and_all_have_one():
    broken = outcome("c.png", error=GpenError("c.png is broken"))
    lines = summary_of([outcome("a.png", [face()]), outcome("b.png"), broken, outcome("d.png", status="skipped")])
    assert lines[:3] == [
        f"{Path('out/a.png')}: 1 face found, 1 restored, 0 skipped (2.5 s)",
        f"{Path('out/b.png')}: no face found, written unchanged (2.5 s)",
        f"{Path('out/d.png')}: skipped, it already exists",
    ]
    assert lines[3].startswith("4 images in ")
    assert lines[3].endswith(": 1 restored, 1 unchanged, 1 skipped (their outputs exist), 1 failed, to out")
    assert lines[4:6] == ["1 face found, 1 restored, 0 skipped", "no face found in 1 image (b.png)"]


def test_of_images_that_all_failed_or_were_skipped_no_faces_are_counted():
    failed = [outcome(f"{n}.png", error=GpenError("there is no face 7: the only face is 0")) for n in range(GROUP_SIZE + 1)]
    lines = summary_of(failed)
    assert lines[0].startswith("images 1 to 20 of 21: 20 failed (") and lines[1].startswith("images 21 of 21: 1 failed (")
    assert lines[2].endswith(": 21 failed, to out") and len(lines) == 3
    lines = summary_of([*failed[:1], outcome("b.png", status="skipped")])
    assert lines[-1].endswith(": 1 skipped (their outputs exist), 1 failed, to out")


def test_of_many_images_every_twenty_have_a_line():
    one = [face(), face(False, "not asked for")]
    lines = summary_of([outcome(f"{n}.png", one if n % 2 else []) for n in range(GROUP_SIZE + 10)])
    assert lines[0].startswith("images 1 to 20 of 30: 10 restored, 10 unchanged; 20 faces found, 10 restored, 10 skipped")
    assert "(10 not asked for)" in lines[0]
    assert lines[1].startswith("images 21 to 30 of 30: 5 restored, 5 unchanged; ")
    assert lines[2].startswith("30 images in ") and lines[2].endswith("15 restored, 15 unchanged, to out")
    assert lines[4] == "no face found in 15 images (0.png, 2.png, 4.png, ...)" and len(lines) == 6


def test_a_run_that_ended_early_says_how_many_are_done():
    lines = summary_of([outcome("a.png", [face()])], count=3)
    assert lines[1].startswith("1 of 3 images in ")


def test_an_image_that_was_upscaled_without_a_face_and_one_in_place():
    (line,) = image_lines(outcome("a.png", status="enlarged").to_json(), 1)
    assert line == f"{Path('out/a.png')}: no face found, upscaled to 640x480 px (1.0 s)"
    row = {**outcome("a.png", [face(False, "x")]).to_json(), "output": "a.png"}
    assert next(image_lines(row, 1)) == "a.png: 1 face found, 0 restored, 1 skipped, not changed (1.0 s)"


def test_numbers_and_times():
    assert number_ranges([0, 2, 3, 4, 7]) == "0,2-4,7" and number_ranges([]) == ""
    assert [seconds_text(t) for t in (3.21, 125, 12000)] == ["3.2 s", "2 min 5 s", "3 h 20 min"]


# The command


def test_restore_prints_what_it_did_and_quiet_does_not(restore, face_file, plain, tmp_path):
    ran = restore(face_file, "-o", tmp_path / "out.png")
    assert ran.out.startswith(f"{tmp_path / 'out.png'}: 1 face found, 1 restored, 0 skipped (") and ran.out.count("\n") == 1
    ran = restore(plain, "-o", tmp_path / "out.png")
    assert "no face found, written unchanged" in ran.out and "detectable faces: about 16 to 64 px" in ran.out
    assert restore(face_file, plain, "-o", tmp_path / "out", "-q").out == ""


@pytest.fixture
def face_file(tmp_path, portrait):
    path = tmp_path / "face.png"
    Image.fromarray(portrait).save(path)
    return path


@pytest.mark.parametrize("numbers", ["9", "0,9"])
def test_a_face_number_that_does_not_exist_is_an_error_of_the_only_image(restore, two_faces, tmp_path, numbers):
    ran = restore(two_faces, "-o", tmp_path / "out.png", "--faces", numbers)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == f"gpen: {two_faces}: there is no face 9: faces are 0 to 1. Nothing was written.\n"
    assert file_names(tmp_path) == ["two.png"]


def test_among_several_images_only_one_with_faces_and_none_of_the_numbers_fails(
    restore, two_faces, face_file, plain, tmp_path
):
    ran = restore(two_faces, face_file, plain, "-o", tmp_path / "out", "--faces", "1,5")
    assert ran.status == 1 and file_names(tmp_path / "out") == ["plain.png", "two.png"]
    assert "face.png: there is no face 1, 5: the only face is 0. Nothing was written." in ran.err
    assert "3 images in " in ran.out and "1 restored, 1 unchanged, 1 failed" in ran.out


def test_faces_at_zero_strength_are_counted_in_words(restore, two_faces, face_file, tmp_path):
    ran = restore(two_faces, face_file, "-o", tmp_path / "out", "--strength", "0")
    assert ran.status == 0 and "3 faces found, 0 restored, 3 skipped (3 at zero strength)\n" in ran.out


def test_a_swap_that_changed_nothing_says_so(restore, two_faces, tmp_path):
    ran = restore(two_faces, "-o", tmp_path / "out.png", "--before-swap", two_faces)
    assert ran.status == 0 and "2 faces found, 0 restored, 2 skipped, written unchanged" in ran.out
    assert "  faces 0-1: skipped, not changed by the swap\n" in ran.out


# Before anything is loaded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("phot.png",), "phot.png cannot be read: No such file or directory. Did you mean photo.png?"),
        (("none.png",), "none.png cannot be read: No such file or directory."),
        (("pictures/*.png",), "No file matches pictures/*.png."),
        (("scan.pdf",), "scan.pdf is a PDF document. Save its pages as images first, such as PNG."),
        (("page.jpg",), "page.jpg is a PDF document. Save its pages as images first, such as PNG."),
        (("clip.mp4",), "clip.mp4 is a video. Restore it with: gpen video clip.mp4 -o OUT.mp4"),
        (("notes.txt",), "notes.txt: the file's format is unknown"),
        (("albums",), "No images in albums, but in subfolders. Use --recursive."),
        (("empty",), "No images ("),
        (("photo.png", "--region-mask", "mask.png"), "mask.png cannot be read: No such file or directory."),
    ],
)
def test_what_cannot_be_read_is_said_where_no_weights_are(gpen, portrait, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    for folder in ("albums/2020", "empty", "none"):
        Path(folder).mkdir(parents=True)
    Image.fromarray(portrait).save("photo.png")
    Image.fromarray(portrait).save("albums/2020/a.png")
    Path("scan.pdf").write_bytes(b"%PDF-1.7\n")
    Path("page.jpg").write_bytes(b"%PDF-1.7\n")
    Path("clip.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    Path("notes.txt").write_text("hello")
    for command in ("restore", "detect"):
        if command == "detect" and ("--region-mask" in arguments or arguments == ("clip.mp4",)):
            continue
        ran = gpen(command, *arguments, "-o", "out", "--models-dir", "none")
        assert ran.status == 3 and ran.err.startswith(f"gpen: {message}") and ran.err.count("\n") == 1
        assert file_names(tmp_path / "none") == [] and not Path("out").exists()


def test_what_cannot_be_read_among_others_is_said_first_and_once_and_is_in_the_report(restore, face_file, tmp_path):
    report = tmp_path / "report.json"
    broken, missing = write_broken_png(tmp_path / "broken.png"), tmp_path / "missing.png"
    ran = restore(face_file, broken, missing, "-o", tmp_path / "out", "--report", report)
    assert ran.status == 1 and ran.err.count("broken.png") == 1 and ran.err.count("missing.png") == 1
    inputs = json.loads(report.read_text("utf-8"))["inputs"]
    assert [one["status"] for one in inputs] == ["restored", "failed", "failed"]
    assert inputs[2]["error"] == f"{missing} cannot be read: No such file or directory."
    ran = restore(face_file, missing, "-o", tmp_path / "new", model="gpen-bfr-2048")
    assert ran.status == 4 and ran.err.index("missing.png") < ran.err.index("GPEN-BFR-2048.pth")


def test_what_is_done_already_needs_no_input(restore, face_file, tmp_path):
    out = tmp_path / "out"
    assert restore(face_file, "-o", out).status == 0
    before = pixels(out / "face.png")
    face_file.unlink()
    ran = restore(face_file, tmp_path / "other.png", "-o", out, "--skip-existing")
    assert ran.status == 1 and "face.png" not in ran.err and f"{out / 'face.png'}: skipped, it already exists" in ran.out
    assert (pixels(out / "face.png") == before).all()
