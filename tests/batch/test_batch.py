import json
import math
import os
import re
from pathlib import Path

import helpers
import numpy as np
import pytest
from cli_fixtures import file_names
from PIL import Image

from gpen_core.batch import local as batch
from gpen_core.batch.job import ImageJob
from gpen_core.batch.job_plan import JobPlan
from gpen_core.batch.output_names import OutputSpec
from gpen_core.batch.sources import InputItem, Sources
from gpen_core.errors import InputError, Interrupted, OptionsError, OutOfMemory, OutputError, WeightsError
from gpen_core.images import codecs
from gpen_core.options import RestoreOptions
from gpen_core.pipeline import report

SIDE = 96


@pytest.fixture
def blind(red, monkeypatch):
    """Finds no face."""
    monkeypatch.setattr(red.models, "detector", helpers.FakeDetector([]))
    return red


def picture(path, mode="RGB", side=SIDE, **how):
    """A textured image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.rint(helpers.texture(side, side, sigma=1.5) * 255).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **how)
    return path


def link(path, target):
    try:
        path.symlink_to(target)
    except OSError:
        pytest.skip("links cannot be made here")
    return path


def run(restorer, jobs, progress=None, **options):
    heard = []
    jobs = [ImageJob(Path(source), Path(target)) for source, target in jobs]
    outcomes = batch.process_all(restorer, jobs, RestoreOptions(**options), heard.append, progress)
    assert heard == outcomes
    return outcomes


# What the arguments stand for


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ("b.png", "a.JPG", "c.txt", "noise.xyz", ".hidden.png", "deep/d.tiff", "deep/er/e.webp", "folder.png/f.bmp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expanded(*arguments):
    with JobPlan(Sources(arguments), OutputSpec(None, in_place=True)) as planned:
        return [job.source for job in planned]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["b.png"], ["b.png"]),
        (["."], ["a.JPG", "b.png"]),
        (["deep"], ["deep/d.tiff"]),
        (["*.png"], ["b.png"]),
        (["deep/*.tif*"], ["deep/d.tiff"]),
        (["deep/**"], ["deep/d.tiff", "deep/er/e.webp"]),
        (["**/*.webp"], ["deep/er/e.webp"]),
        (["[ab].*"], ["a.JPG", "b.png"]),
        (["b.png", "deep", "a.JPG"], ["b.png", "deep/d.tiff", "a.JPG"]),
        (["b.png", "b.png", "./b.png", "deep/../b.png", ".", "*.png"], ["b.png", "a.JPG"]),
        (["c.txt"], ["c.txt"]),
        (["missing.png", "b.png"], ["missing.png", "b.png"]),
        (["missing/*.png", "b.png"], ["missing/*.png", "b.png"]),
        (["x" * 5000], ["x" * 5000]),
    ],
)
def test_arguments_name_each_image_once(tree, arguments, expected):
    assert [path.as_posix() for path in expanded(*arguments)] == expected


def test_a_name_with_brackets_is_a_name_first(tree):
    (tree / "b[1].png").write_bytes(b"x")
    (tree / "b1.png").write_bytes(b"x")
    assert expanded("b[1].png") == [Path("b[1].png")]


def test_a_link_and_its_target_are_one_image(tree):
    link(tree / "link.png", tree / "b.png")
    assert expanded("b.png", "link.png") == [Path("b.png")]
    assert expanded("link.png") == [Path("link.png")]


def test_an_empty_name_is_refused_since_it_would_mean_this_folder(tree):
    with pytest.raises(OptionsError, match="empty name"):
        expanded("b.png", "")


def test_a_folder_without_images_is_told(tree, caplog):
    (tree / "empty").mkdir()
    assert expanded("empty", "b.png") == [Path("b.png")]
    assert re.search(r"No images .* in empty\.", caplog.text)


def test_a_folder_that_cannot_be_listed_is_an_input_error(tree, monkeypatch):
    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match="deep cannot be read: Permission denied"):
        expanded("deep")


# Where the results go


def targets(sources, out):
    with JobPlan([InputItem.from_location(Path(source)) for source in sources], OutputSpec(Path(out))) as planned:
        return [job.target.as_posix() for job in planned]


@pytest.mark.parametrize(
    ("sources", "out", "expected"),
    [
        (["b.png"], "out.jpg", ["out.jpg"]),
        (["b.png"], "new/out.TIFF", ["new/out.TIFF"]),
        (["b.png"], "deep", ["deep/b.png"]),
        (["b.png"], "new/folder", ["new/folder/b.png"]),
        (["b.png"], "folder.png", ["folder.png/b.png"]),
        (["b.png", "a.JPG"], "restored.v2", ["restored.v2/b.png", "restored.v2/a.JPG"]),
        (["deep/d.tiff", "a.JPG"], "out", ["out/d.tiff", "out/a.JPG"]),
    ],
)
def test_a_result_goes_to_a_file_or_into_a_folder(tree, sources, out, expected):
    assert targets(sources, out) == expected


@pytest.mark.parametrize(
    ("sources", "out", "why"),
    [
        (["b.png"], "out.gif", r"\.gif cannot be written.*\.png"),
        (["b.png"], "out.jgp", r"\.jgp cannot be written.*\.png"),
        (["b.png"], "c.txt", r"\.txt cannot be written"),
        (["b.png", "a.JPG"], "out.png", "is one file, but there are 2 images"),
        (["b.png", "a.JPG"], "out.gif", "is one file, but there are 2 images"),
        (["b.png", "a.JPG"], "c.txt", "is one file, but there are 2 images"),
        (["b.png", "deep/b.png"], "out", "would both become"),
        (["b.png"], "b.png", "is an input"),
        (["b.png"], ".", "is an input"),
        (["b.png"], "./deep/../b.png", "is an input"),
        (["deep/d.tiff", "b.png"], ".", "is an input"),
        (["deep/b.png", "b.png"], ".", "is an input"),
    ],
)
def test_what_would_overwrite_or_cannot_be_written_is_refused(tree, sources, out, why):
    with pytest.raises(OptionsError, match=why):
        targets(sources, out)


def test_an_input_is_recognized_through_links(tree):
    link(tree / "link.png", tree / "b.png")
    link(tree / "linked", tree)
    for source, out in (("b.png", "link.png"), ("link.png", "b.png"), ("b.png", "linked"), ("linked/b.png", "b.png")):
        with pytest.raises(OptionsError, match="is an input"):
            targets([source], out)


def test_in_place_means_each_input_itself(tree):
    sources = [Path("b.png"), Path("deep/d.tiff")]
    with JobPlan(map(InputItem.from_location, sources), OutputSpec(None, in_place=True)) as planned:
        assert list(planned) == [ImageJob(source, source) for source in sources]


def test_nowhere_to_write_to_is_refused(tree):
    with pytest.raises(OptionsError, match="--in-place"):
        JobPlan([InputItem("b.png", "b.png")], OutputSpec(None))


@pytest.mark.parametrize("report", ["b.png", "./b.png", "out/b.png", "deep"])
def test_a_report_over_an_image_or_a_folder_is_refused(tree, report):
    with JobPlan([InputItem("b.png", "b.png")], OutputSpec(Path("out"))) as planned:
        with pytest.raises(OptionsError, match="report"):
            planned.check_report(Path(report))
        planned.check_report(Path("out/b.json"))


# What is written


@pytest.mark.parametrize("how", ["no face", "strength 0", "too small"])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tiff", "a.bmp", "a.JPEG"])
def test_an_unchanged_image_is_copied_byte_for_byte(red, monkeypatch, tmp_path, name, how):
    source, target = picture(tmp_path / name), tmp_path / "out" / name
    if how == "no face":
        monkeypatch.setattr(red.models, "detector", helpers.FakeDetector([]))
    options = {"strength 0": {"strength": 0}, "too small": {"min_face_size": 41}}.get(how, {})
    (outcome,) = run(red, [(source, target)], **options)
    assert (outcome.status, outcome.error) == ("unchanged", None)
    assert target.read_bytes() == source.read_bytes()


def test_a_copy_is_made_although_the_name_tells_another_format(blind, tmp_path):
    source = picture(tmp_path / "a.png", format="JPEG")
    before = source.read_bytes()
    run(blind, [(source, tmp_path / "b.png"), (source, tmp_path / "b.jpg"), (source, source)])
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "b.jpg").read_bytes() == source.read_bytes() == before


def test_an_unchanged_image_in_place_is_not_written_at_all(blind, tmp_path, monkeypatch):
    source = picture(tmp_path / "a.png")
    monkeypatch.setattr(batch, "write_bytes", lambda *_: pytest.fail("written"))
    (outcome,) = run(blind, [(source, source)])
    assert outcome.status == "unchanged"


def test_an_unchanged_image_is_converted_where_another_format_is_asked_for(blind, tmp_path):
    source, target = picture(tmp_path / "a.png"), tmp_path / "a.bmp"
    run(blind, [(source, target)])
    with Image.open(source) as before, Image.open(target) as after:
        assert after.format == "BMP"
        assert np.array_equal(np.asarray(before), np.asarray(after))


def thermal(path):
    """With a block that no new file gets."""
    segment = b"\xff\xe1\0\x0cFLIR\0\1\0\0ab"
    data = picture(path, format="JPEG").read_bytes()
    path.write_bytes(data[:20] + segment + data[20:])
    return path


def test_what_a_new_file_is_without_is_noted_once(red, tmp_path, caplog):
    source = thermal(tmp_path / "a.jpg")
    first, second = run(red, [(source, tmp_path / "b.jpg"), (picture(tmp_path / "c.jpg"), tmp_path / "d.jpg")])
    (note,) = first.to_json()["notes"]
    assert "FLIR data" in note and "FLIR" not in caplog.text
    assert (second.status, second.notes) == ("restored", ())


@pytest.mark.parametrize("name, notes", [("out/a.jpg", 0), ("a.jpg", 0), ("a.png", 1)])
def test_a_copy_is_without_nothing(blind, tmp_path, name, notes):
    (outcome,) = run(blind, [(thermal(tmp_path / "a.jpg"), tmp_path / name)])
    assert outcome.status == "unchanged" and len(outcome.notes) == notes
    assert (b"FLIR" in (tmp_path / name).read_bytes()) == (notes == 0)


@pytest.mark.parametrize("in_place", [False, True])
def test_a_restored_image_is_written_whole(red, tmp_path, in_place):
    source = picture(tmp_path / "a.png")
    before = codecs.read(source).image.to_input_type()
    target = source if in_place else tmp_path / "new" / "b.png"
    restored = []
    jobs = [ImageJob(source, target)]
    (outcome,) = batch.process_all(
        red, jobs, RestoreOptions(), lambda outcome: restored.append(outcome.result.image_data.to_input_type())
    )
    assert outcome.status == "restored"
    after = codecs.read(target).image.to_input_type()
    assert np.array_equal(after, restored[0])
    assert not np.array_equal(after, before)
    assert in_place or np.array_equal(codecs.read(source).image.to_input_type(), before)
    assert file_names(target.parent) == [target.name]


def test_in_place_through_a_link_writes_the_file_and_keeps_the_link(red, tmp_path):
    source = picture(tmp_path / "real" / "a.png")
    before = source.read_bytes()
    linked = link(tmp_path / "link.png", source)
    run(red, [(linked, linked)])
    assert linked.is_symlink()
    assert source.read_bytes() != before


@pytest.mark.parametrize("in_place", [False, True])
def test_a_failing_disk_leaves_what_was_there(red, tmp_path, monkeypatch, in_place):
    source, other = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    target = source if in_place else other
    before = target.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    (outcome,) = run(red, [(source, target)])
    assert isinstance(outcome.error, OutputError)
    assert "No space left" in str(outcome.error)
    assert target.read_bytes() == before
    assert file_names(tmp_path) == ["a.png", "b.png"]


def test_a_broken_image_does_not_stop_the_others(red, tmp_path):
    (tmp_path / "b.png").write_bytes(picture(tmp_path / "a.png").read_bytes()[:300])
    jobs = [(tmp_path / name, tmp_path / "out" / name) for name in ("missing.png", "a.png", "b.png", "c.png")]
    picture(tmp_path / "c.png")
    outcomes = run(red, jobs)
    assert [outcome.status for outcome in outcomes] == ["failed", "restored", "failed", "restored"]
    assert file_names(tmp_path / "out") == ["a.png", "c.png"]
    for outcome in outcomes:
        assert outcome.error is None or str(outcome.files.source) in str(outcome.error)


def test_an_image_that_its_target_cannot_hold_is_named(red, tmp_path):
    source = picture(tmp_path / "a.png", "RGBA")
    (outcome,) = run(red, [(source, tmp_path / "a.jpg")])
    assert isinstance(outcome.error, OutputError)
    assert str(source) in str(outcome.error)
    assert "alpha" in str(outcome.error)
    assert not (tmp_path / "a.jpg").exists()


@pytest.mark.parametrize("stop_at", ["start", "end"])
def test_a_progress_that_interrupts_leaves_nothing_half_written(red, tmp_path, stop_at):
    source = picture(tmp_path / "a.png")
    before = source.read_bytes()

    def progress(event):
        assert event.total in (None, 1)
        if event.total and event.done == (event.total if stop_at == "end" else 0):
            raise Interrupted("stopped by the user")

    for target in (tmp_path / "out.png", source):
        with pytest.raises(Interrupted):
            run(red, [(source, target)], progress)
    assert file_names(tmp_path) == ["a.png"]
    assert source.read_bytes() == before


def test_running_out_of_memory_outside_the_network_is_out_of_memory_too(red, tmp_path, monkeypatch):
    errors = iter([RuntimeError("CUDA out of memory."), MemoryError()] * 2)  # two images, each tried again alone
    detect = red.detector.detect

    def greedy(*args, **others):
        for error in errors:
            raise error
        return detect(*args, **others)

    monkeypatch.setattr(red.detector, "detect", greedy)
    jobs = [(picture(tmp_path / name), tmp_path / "out" / name) for name in ("a.png", "b.png", "c.png")]
    outcomes = run(red, jobs)
    assert [type(outcome.error) for outcome in outcomes] == [OutOfMemory, OutOfMemory, type(None)]
    assert all(str(outcome.files.source) in str(outcome.error) for outcome in outcomes[:2])
    assert file_names(tmp_path / "out") == ["c.png"]


def test_an_image_out_of_memory_beside_others_is_tried_again_alone(red, tmp_path, monkeypatch, caplog):
    errors = iter([MemoryError()])
    detect = red.detector.detect

    def greedy(*args, **others):
        for error in errors:
            raise error
        return detect(*args, **others)

    monkeypatch.setattr(red.detector, "detect", greedy)
    jobs = [(picture(tmp_path / name), tmp_path / "out" / name) for name in ("a.png", "b.png")]
    assert [outcome.error for outcome in run(red, jobs)] == [None, None]
    assert file_names(tmp_path / "out") == ["a.png", "b.png"] and "trying again without them" in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), WeightsError("refused"), KeyboardInterrupt()])
def test_other_errors_end_the_run(red, tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(red, "restore_batch", fail)
    with pytest.raises(type(error)):
        run(red, [(picture(tmp_path / "a.png"), tmp_path / "b.png")])
    assert file_names(tmp_path) == ["a.png"]


# What is told


def test_the_report_tells_every_face_and_stage(red, tmp_path):
    source = picture(tmp_path / "a.png", side=SIDE)
    outcomes = run(red, [(source, tmp_path / "out.png"), (tmp_path / "no.png", tmp_path / "out2.png")], detection_size=64)
    told = json.loads(report.format_report(red, {"model": "m", "detector": "d"}, RestoreOptions(faces="0,2"), outcomes))
    assert (told["model"], told["detector"]) == ("m", "d")
    assert (told["size"], told["device"], told["dtype"]) == (256, "cpu", "float32")
    assert told["options"]["faces"] == [0, 2]
    assert "error" not in told
    done, failed = told["inputs"]
    assert (done["input"], done["output"], done["status"]) == (str(source), str(tmp_path / "out.png"), "restored")
    assert (done["width"], done["height"]) == (SIDE, SIDE)
    assert done["smallest_face_px"] == pytest.approx(16 * SIDE / 55, abs=0.01)  # as many pixels as 64 x 48
    (face,) = done["faces"]
    assert {"number": 0, "score": 0.99, "restored": True, "reason": None}.items() <= face.items()
    assert face["box"] == [28, 28, 68, 68]
    assert set(done["seconds"]) == {"read", "detect", "align", "network", "mask", "blend", "write"}
    assert done["seconds"]["network"] > 0
    assert (failed["output"], failed["status"]) == (None, "failed")
    assert "no.png" in failed["error"]


def test_the_report_tells_why_a_face_was_left_alone(red, tmp_path):
    (done,) = run(red, [(picture(tmp_path / "a.png"), tmp_path / "b.png")], min_face_size=41)
    (face,) = done.to_json()["faces"]
    assert not face["restored"]
    assert "41 px" in face["reason"]


def strict(constant):
    raise AssertionError(f"{constant} is no JSON")


def test_the_report_is_valid_json_whatever_the_detector_and_the_names_hold(red, tmp_path, monkeypatch):
    odd = helpers.make_face((48, 48), 40)
    object.__setattr__(odd, "box", (math.nan, -math.inf, 60.0, 60.0))
    monkeypatch.setattr(red.models, "detector", helpers.FakeDetector([odd]))
    outcomes = run(red, [(picture(tmp_path / "a.png"), tmp_path / "b.png")], strength=0)
    outcomes[0].files = ImageJob(Path("not-utf8-\udcff.png"), Path("größe.png"))
    text = report.format_report(red, {"model": "m"}, RestoreOptions(), outcomes, "ended")
    (told,) = json.loads(text.encode(), parse_constant=strict)["inputs"]
    assert told["faces"][0]["box"] == [None, None, 60, 60]
    assert (told["input"], told["output"]) == ("not-utf8-\udcff.png", "größe.png")
    assert "größe" in text


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_an_image_without_faces_is_copied_as_it_was_read(blind, tmp_path, monkeypatch, change):
    sources = [picture(tmp_path / "in" / name) for name in ("a.png", "b.png", "c.png")]
    read = [source.read_bytes() for source in sources]
    restore_all = blind.restore_batch

    def while_it_is_restored(frames, *args, **kwargs):
        if sources[1].exists():
            sources[1].unlink() if change == "gone" else sources[1].write_bytes(b"another")
        return restore_all(frames, *args, **kwargs)

    monkeypatch.setattr(blind, "restore_batch", while_it_is_restored)
    # The second is read ahead while the first is in the network, or after it: either way what was read is what counts.
    outcomes = run(blind, [(source, tmp_path / "out" / source.name) for source in sources[1:2] + sources[::2]])
    assert [outcome.status for outcome in outcomes] == ["unchanged"] * 3
    assert (tmp_path / "out" / "b.png").read_bytes() == read[1]
