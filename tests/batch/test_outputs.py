"""What results are called, in which format they are written, what is left out of a folder, and what is refused before."""

import json
import sys
from pathlib import Path

import helpers
import image_files as made
import numpy as np
import pytest
from cli_fixtures import file_names
from PIL import Image

from gpen_core.batch import local, ray_images
from gpen_core.batch.job import ImageJob
from gpen_core.batch.job_plan import JobPlan
from gpen_core.batch.locations import parse_location, parse_output
from gpen_core.batch.output_names import OutputSpec, result_name
from gpen_core.batch.sources import Sources
from gpen_core.errors import ImageTooLarge, OptionsError, OutputError
from gpen_core.images import codecs, formats
from gpen_core.options import RestoreOptions

pytest_plugins = ["cli_fixtures"]

SIDE = 96


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    return Path("in")


def photo(path, mode="RGB", format_name=None):
    pixels = np.rint(helpers.texture(SIDE, SIDE, sigma=1.5) * 255).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, format_name)
    return path


def plan(*sources, out="out", **how):
    return JobPlan(Sources(tuple(map(str, sources))), OutputSpec(None if out is None else parse_location(str(out)), **how))


def planned(*sources, **how):
    with plan(*sources, **how) as jobs:
        jobs.check_outputs()
        return list(jobs)


def restored(red, *sources, **how):
    outcomes = local.process_all(red, planned(*sources, **how), RestoreOptions(), lambda outcome: None)
    return [(one.status, one.error) for one in outcomes]


# Names and formats


@pytest.mark.parametrize(
    "name, how, expected",
    [
        ("a.jpg", {}, "a.jpg"),
        ("a.HEIC", {}, "a.png"),
        ("deep/a.b.gif", {}, "deep/a.b.png"),
        ("a.jp2", {"format": "webp"}, "a.webp"),
        ("a.jpeg", {"format": "jpg"}, "a.jpeg"),
        ("a.JPG", {"format": "tiff", "suffix": "_restored"}, "a_restored.tiff"),
        ("deep.er/a.png", {"suffix": "_restored"}, "deep.er/a_restored.png"),
        ("a", {"suffix": "_restored"}, "a_restored"),
        ("a.v2", {"format": "png"}, "a.v2.png"),
        ("deep.png/a", {}, "deep.png/a"),
        (".png", {}, ".png"),
    ],
)
def test_a_result_is_called_as_its_image_unless_it_is_asked_to_be_called_otherwise(name, how, expected):
    assert result_name(name, OutputSpec(Path("out"), **how)) == expected


@pytest.mark.parametrize(
    "how, why",
    [
        ({"format": "png", "in_place": True, "out": None}, "--format changes the names of results, but --in-place"),
        ({"suffix": "_new", "in_place": True, "out": None}, "--suffix changes the names of results, but --in-place"),
        ({"suffix": "../x"}, "expected a part of a file name"),
        ({"out": "x.jpg", "format": "png"}, "--format png contradicts the suffix of x.jpg"),
        ({"out": "x.jpg", "suffix": "_new"}, "--suffix is for folders"),
        ({"out": "x.heic"}, r"x\.heic: an image of type \.heic cannot be written\. Choose one of \.png"),
    ],
)
def test_what_contradicts_is_refused(folder, how, why):
    photo(folder / "a.jpg")
    with pytest.raises(OptionsError, match=why):
        planned(folder / "a.jpg", **how)


def test_the_names_of_one_file_and_of_its_format_may_agree(folder):
    photo(folder / "a.png")
    assert planned(folder / "a.png", out="x.jpeg", format="jpg")[0].target == Path("x.jpeg")


def test_two_images_that_would_become_one_are_refused(folder):
    for name in ("a.png", "a.gif"):
        photo(folder / name)
    with pytest.raises(OptionsError, match=r"would both become out.a\.png\. To give each .* name, add --suffix _\{ext\}\."):
        planned(folder)


def test_the_type_of_an_input_in_its_name_gives_each_its_own(folder):
    """The names do not depend on the other images, so a run that resumes with fewer finds the same results."""
    for name in ("a.png", "a.gif", "b.JPG"):
        photo(folder / name)
    Path(folder, "c").write_bytes(Path(folder, "a.gif").read_bytes())
    jobs = planned(folder, folder / "c", suffix="_{ext}")
    assert sorted(job.target.name for job in jobs) == ["a_gif.png", "a_png.png", "b_JPG.JPG", "c_"]
    (alone,) = planned(folder / "a.gif", suffix="_{ext}")
    assert alone.target == Path("out", "a_gif.png")
    assert {job.target.name for job in planned(folder, format="jpg", suffix=".{ext}")} == {
        "a.png.jpg",
        "a.gif.jpg",
        "b.JPG.JPG",
    }


@pytest.mark.parametrize("text", ["new.folder/", "new.png/"])
def test_a_name_with_a_slash_at_its_end_is_a_folder(folder, text):
    photo(folder / "a.jpg")
    place = parse_output(text)
    assert planned(folder / "a.jpg", out=place.location, is_folder=place.is_folder)[0].target == Path(text, "a.jpg")
    assert not parse_output(text.rstrip("/")).is_folder


@pytest.mark.parametrize("format_name, kind", [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP"), ("tiff", "TIFF")])
@pytest.mark.parametrize("faces", (True, False))
def test_all_are_written_in_the_format_asked_for(red, monkeypatch, folder, format_name, kind, faces):
    if not faces:
        monkeypatch.setattr(red.models, "detector", helpers.FakeDetector([]))
    for name in ("a.png", "b.jpg", "c.gif", "d.jp2"):
        photo(folder / name)
    status = "restored" if faces else "unchanged"
    assert restored(red, folder, format=format_name) == [(status, None)] * 4
    found = {path.stem: Image.open(path).format for path in Path("out").iterdir()}
    assert found == dict.fromkeys("abcd", kind)


@pytest.mark.parametrize("faces", (True, False))
def test_a_format_that_is_not_written_becomes_png_and_is_not_copied_under_that_name(red, monkeypatch, folder, faces):
    if not faces:
        monkeypatch.setattr(red.models, "detector", helpers.FakeDetector([]))
    photo(folder / "a.gif")
    photo(folder / "b", format_name="GIF")  # named without a suffix
    assert [error for _, error in restored(red, folder / "a.gif", folder / "b")] == [None, None]
    assert [Image.open(Path("out", name)).format for name in ("a.png", "b")] == ["PNG", "PNG"]


def test_quality_is_that_of_the_result(red, folder):
    photo(folder / "a.jpg")
    sizes = []
    for quality in (30, 90):
        restored(red, folder, out=f"out{quality}", quality=quality)
        sizes.append(Path(f"out{quality}/a.jpg").stat().st_size)
    assert sizes[0] < sizes[1]


def test_more_pixels_than_allowed_are_refused_image_by_image(red, folder):
    photo(folder / "a.png")
    Image.new("RGB", (10, 10)).save(folder / "b.png")
    (_, refused), (_, error) = restored(red, folder, max_pixels=SIDE * SIDE - 1)
    assert isinstance(refused, ImageTooLarge) and error is None


def test_what_a_job_asks_for_reaches_a_worker():
    job = ImageJob(Path("a.png"), Path("b.jpg"), quality=77, max_pixels=999)
    assert ray_images.decode_job(ray_images.encode_job(job)) == job


# What is refused before anything is loaded


def test_alpha_that_the_format_cannot_hold_is_refused_in_the_plan(folder):
    photo(folder / "a.png", "RGBA")
    photo(folder / "b.png")
    photo(folder / "c.gif", "P")
    with pytest.raises(OptionsError, match=r"^in.a\.png: JPEG cannot hold an alpha channel\. Choose the format png"):
        planned(folder, format="jpg")
    with pytest.raises(OptionsError, match=r"a\.png: BMP cannot hold an alpha channel"):
        planned(folder / "a.png", out="x.bmp")
    assert len(planned(folder / "b.png", folder / "c.gif", format="jpg")) == 2


def test_alpha_that_the_plan_has_not_seen_is_refused_before_the_work(red, monkeypatch, folder):
    monkeypatch.setattr("gpen_core.batch.job_plan.CHECKED_HEADERS", 0)
    monkeypatch.setattr(red.models, "detector", None)  # nothing is looked for
    photo(folder / "a.png", "RGBA")
    ((status, error),) = restored(red, folder, format="jpg")
    assert status == "failed" and isinstance(error, OutputError) and "alpha" in str(error)


def test_a_broken_image_is_no_matter_of_the_plan(folder):
    (folder / "a.png").write_bytes(b"broken")
    assert len(planned(folder, "in/missing.png", format="jpg")) == 2


def test_what_is_not_written_cannot_be_restored_in_place(folder):
    photo(folder / "a.jpg")
    photo(folder / "b.gif")
    with pytest.raises(
        OptionsError, match=r"b\.gif cannot be restored in place, because GIF cannot be written\. Use -o OUT"
    ):
        planned(folder, out=None, in_place=True)


@pytest.mark.skipif(sys.platform != "linux", reason="a folder that nobody may write to")
def test_a_folder_that_cannot_be_written_to_is_refused_first(folder):
    photo(folder / "a.jpg")
    with pytest.raises(OutputError, match="Nothing can be written to /proc/new: "):
        planned(folder, out="/proc/new")


def test_a_file_is_no_folder_above_the_results(folder):
    photo(folder / "a.jpg")
    Path("taken").write_text("a file")
    with pytest.raises(OutputError, match=r"Nothing can be written to taken.new"):
        planned(folder, out="taken/new")
    with pytest.raises(OutputError, match="Nothing can be written to taken"):
        planned(folder, out="taken", is_folder=True)
    assert file_names(Path()) == ["in", "taken"]  # and nothing is left there


# What is left out


def leave_some_out(folder):
    photo(folder / "a.png")
    for name in ("b.txt", "c.TXT", "d.mov", "noise", ".hidden.txt"):
        (folder / name).write_bytes(b"x")
    (folder / "deep").mkdir()
    (folder / "deep/e.jxl").write_bytes(b"x")


def test_what_is_left_out_of_a_folder_is_counted_by_suffix(folder, caplog):
    leave_some_out(folder)
    sources = Sources(("in",))
    assert [Path(item.source).name for item in sources] == ["a.png"]
    assert sources.left_out == {".txt": 2, ".mov": 1, "without a suffix": 1}
    assert "Left out: 2 .txt, 1 .mov, 1 without a suffix." in caplog.text
    again = Sources(("in",), recursive=True)
    for _ in range(2):  # each time anew
        list(again)
        assert again.left_out == {".txt": 2, ".mov": 1, "without a suffix": 1, ".jxl": 1}


def test_subfolders_with_images_are_left_out_aloud(folder, caplog):
    photo(folder / "a.png")
    for name in ("deep", "out", "empty"):
        (folder / name).mkdir()
    photo(folder / "deep/b.png")
    photo(folder / "out/a.png")
    sources = Sources(("in",), excluded=folder / "out")
    assert len(list(sources)) == 1 and sources.left_out == {"subfolders": 1}
    assert "Left out: 1 subfolder with images (to read them: --recursive)." in caplog.text
    assert len(list(Sources(("in",), recursive=True, excluded=folder / "out"))) == 2


def test_images_that_cannot_be_read_are_not_taken_for_those_of_subfolders(folder, monkeypatch):
    monkeypatch.setattr("gpen_core.images.formats.missing_reader", {"HEIF": "pip install pillow-heif"}.get)
    (folder / "IMG_1.HEIC").write_bytes(b"x")
    sources = Sources(("in",))
    assert not list(sources) and sources.left_out == {".heic": 1}
    assert sources.no_images_text().startswith("No images (.png, .jpg")


def test_a_folder_with_images_only_in_subfolders_is_told_once(folder, caplog):
    (folder / "deep").mkdir(exist_ok=True)
    photo(folder / "deep/b.png")
    sources = Sources(("in",))
    assert not list(sources) and sources.no_images_text() == "No images in in, but in subfolders. Use --recursive."
    assert not caplog.text and not sources.left_out
    photo(folder.parent / "a.png")
    assert len(list(Sources(("in", "a.png")))) == 1 and caplog.text.count("--recursive") == 1


def test_where_all_is_taken_nothing_is_said(folder, caplog):
    photo(folder / "a.png")
    assert len(list(Sources(("in",)))) == 1 and not caplog.text


def test_what_another_package_would_read_is_left_out_with_its_name(folder, caplog, monkeypatch):
    photo(folder / "a.png")
    (folder / "b.heic").write_bytes(b"x")
    missing = formats.missing_reader
    monkeypatch.setattr(formats, "missing_reader", lambda one: "to read them: a package" if one == "HEIF" else missing(one))
    sources = Sources(("in",))
    assert len(list(sources)) == 1 and sources.left_out == {".heic": 1}
    assert "Left out: 1 .heic (to read them: a package)." in caplog.text
    assert [Path(item.source).name for item in Sources(("in/b.heic",))] == ["b.heic"]  # named, it fails for itself


def test_a_folder_of_many_kinds_is_counted_in_little_memory(folder, monkeypatch):
    monkeypatch.setattr("gpen_core.batch.sources.MAX_SUFFIXES", 2)
    for number in range(5):
        (folder / f"a.{number}").touch()
    sources = Sources(("in",))
    assert list(sources) == [] and sources.left_out == {".0": 1, ".1": 1, "others": 3}


@pytest.mark.slow
def test_the_command_counts_them_aloud_and_in_the_report(restore, folder, caplog):
    leave_some_out(folder)
    photo(folder / "b.gif")
    for name in ("r.json", "r.jsonl"):
        done = restore("in", "-o", "out", "--report", name)
        assert done.status == 0 and "Left out: 2 .txt, 1 .mov" in caplog.text
        caplog.clear()
    assert file_names(Path("out")) == ["a.png", "b.png"]
    (start, *_) = map(json.loads, Path("r.jsonl").read_text("utf-8").splitlines())
    assert json.loads(Path("r.json").read_text("utf-8"))["left_out"] == start["left_out"]
    assert start["left_out"] == {".txt": 2, ".mov": 1, "without a suffix": 1}


@pytest.mark.parametrize(
    "arguments, why",
    [
        (("--quality", "101"), "a whole number from 1 to 100"),
        (("--max-pixels", "many"), "a positive number of pixels"),
        (("--format", "gif"), "invalid choice"),
    ],
)
def test_values_that_cannot_be_are_usage(restore, folder, arguments, why):
    done = restore("in", "-o", "out", *arguments)
    assert done.status == 2 and why in done.err


def test_a_file_cut_short_is_still_refused_in_its_turn(red, folder):
    (folder / "a.jp2").write_bytes(made.encode_image(made.noise((64, 64, 3)), "JPEG2000")[:-40])
    ((status, error),) = restored(red, folder)
    assert status == "failed" and "damaged" in str(error)


def test_the_images_of_a_pair_may_be_of_the_formats_that_are_only_read(red, folder):
    photo(folder / "a.jpg")
    Image.new("L", (SIDE, SIDE), 255).save("mask.gif")
    assert restored(red, folder, region_mask=Path("mask.gif")) == [("restored", None)]
    assert codecs.read(Path("out/a.jpg")).format == "JPEG"
