"""`gpen video` with several videos."""

import json
from pathlib import Path

import numpy as np
import pytest
import video_fakes
import video_files
from cli_fixtures import file_names
from PIL import Image
from video_fakes import SIZE, frames

from gpen_core.cli import video_preview, video_run
from gpen_core.video.probe import probe

pytest_plugins = ["cli_fixtures"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def network(monkeypatch):
    """The network of `video_fakes`; `loads` counts how often it is loaded."""
    runner, network = video_fakes.restorer()
    network.loads = 0

    def load(given, options):
        network.loads += 1
        return runner

    for module in (video_run, video_preview):
        monkeypatch.setattr(module, "load_restorer", load)
    return network


def film(name, count=4):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    return video_files.write_video(Path(name), count, SIZE, "ffv1", rate=2, pictures=list(frames(count)))


def shot(folder, count=3):
    Path(folder).mkdir(parents=True)
    for n, picture in enumerate(frames(count)):
        Image.fromarray(picture).save(Path(folder) / f"{n}.png")


def broken(name):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(b"this is no film" * 100)


def report(name="report.json"):
    return json.loads(Path(name).read_text("utf-8"))


def test_a_folder_of_videos_with_one_model_one_report_and_one_summary(video, network):
    film("in/a.mkv")
    film("in/deep/b.mkv", 5)
    shot("shot")
    ran = video("in", "shot", "-o", "out", "--recursive", "--codec", "ffv1", "--report", "report.json", "--format", "mkv")
    assert (ran.status, network.loads) == (0, 1)
    lines = ran.out.splitlines()
    paths = [str(Path("out", *name.split("/"))) for name in ("a.mkv", "deep/b.mkv", "shot.mkv")]
    for path, line, count in zip(paths, lines, (4, 5, 3)):
        assert line.startswith(f"{path}: {count} frames, 1 person: 1 restored, 0 skipped (")
        assert probe(Path(path)).frame_count == count
    assert lines[3].startswith("3 videos in ") and lines[3].endswith(": 3 restored")
    assert lines[4:] == ["3 people: 3 restored, 0 skipped"]
    assert ran.err.splitlines() == [
        f"gpen: video {n} of 3: {Path(name)}" for n, name in enumerate(("in/a.mkv", "in/deep/b.mkv", "shot"), 1)
    ]
    told = report()
    assert (told["model"], told["video"]["codec"], "error" in told) == ("red-256", "ffv1", False)
    assert [(one["input"], one["output"], one["status"]) for one in told["videos"]] == [
        (str(Path(source)), path, "restored") for source, path in zip(("in/a.mkv", "in/deep/b.mkv", "shot"), paths)
    ]
    assert [one["frame_count"] for one in told["videos"]] == [4, 5, 3] and told["videos"][1]["tracks"][0]["restored"] == 5


def test_one_that_fails_does_not_stop_the_rest(video, network):
    """One cannot be read, which is said before anything is loaded; one fails later."""
    broken("a.mkv")
    film("b.mkv")
    film("c.mkv", 8)
    film("d.mkv")
    Path("out/c.mkv.unfinished").parent.mkdir()
    Path("out/c.mkv.unfinished").write_text("in the way")
    ran = video("a.mkv", "b.mkv", "c.mkv", "d.mkv", "-o", "out", "--report", "report.jsonl")
    assert ran.status == 1 and network.loads == 1 and file_names(Path("out")) == ["b.mkv", "c.mkv.unfinished", "d.mkv"]
    errors = [line for line in ran.err.splitlines() if "video " not in line[:12]]
    assert len(errors) == 2 and "a.mkv cannot be read as a video" in errors[0] and "is a file, but gpen needs" in errors[1]
    assert "4 videos in" in ran.out and ran.out.splitlines()[-2].endswith(": 2 restored, 2 failed")
    rows = [json.loads(line) for line in Path("report.jsonl").read_text("utf-8").splitlines()]
    assert [row["row"] for row in rows] == ["start", "video", "video", "video", "video", "end"]
    assert [row.get("status") for row in rows[1:5]] == ["failed", "restored", "failed", "restored"]
    assert rows[5]["counts"] == {"failed": 2, "restored": 2} and rows[0]["size"] == 256


def test_a_fault_of_the_network_is_one_of_its_video(video, network):
    for name in ("a.mkv", "b.mkv", "c.mkv"):
        film(name)
    network.fails_after = 4

    def change(crop, before=network.change):
        if network.faces > 8:
            network.fails_after = None
        return before(crop)

    network.change = change
    ran = video("a.mkv", "b.mkv", "c.mkv", "-o", "out")
    assert ran.status == 1 and "b.mkv: Unexpected RuntimeError: the network broke" in ran.err
    assert "a.mkv" in file_names(Path("out")) and "b.mkv" not in file_names(Path("out"))


def test_a_face_that_one_video_lacks(video, network):
    film("a.mkv")
    film("b.mkv")
    ran = video("a.mkv", "b.mkv", "-o", "out", "--faces", "7")
    assert ran.status == 1 and ran.err.count("there is no face 7") == 2  # as with images
    assert ran.out.splitlines()[-1].endswith(": 2 failed") and not list(Path("out").glob("*.mkv"))


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("a.mkv", "b.mkv", "-o", "c.mkv"), 2, "c.mkv is one file, but there are 2 videos"),
        (("a.mkv", "b.mkv", "-o", "out", "--crf", 99), 2, "from 0 to 51"),
        (("a.mkv", "b.mkv", "-o", "out", "--suffix", "a/b"), 2, "expected a part of a file name"),
        (("a.mkv", "b.mkv", "-o", "out", "--report", "b.mkv"), 2, "would overwrite the video"),
        (("a.mkv", "sub/a.mkv", "-o", "out"), 2, "would both become"),
        (("sub", "-o", "sub"), 2, "is an input and would be overwritten"),
        (("none", "x*.mkv", "-o", "out"), 3, "No file matches x*.mkv"),
        (("empty", "-o", "out"), 3, "No videos and no frames ("),
        (("-o", "out"), 2, "the following arguments are required: INPUT"),
    ],
)
def test_a_run_that_cannot_be_is_refused_before_anything_is_loaded(video, arguments, status, says):
    for name in ("a.mkv", "b.mkv", "sub/a.mkv"):
        film(name)
    Path("empty").mkdir()
    ran = video(*arguments, model="no-such-model")
    assert ran.status == status and says in ran.err and not Path("out").exists()


def test_without_a_readable_video_nothing_is_loaded(video):
    broken("in/a.mkv")
    broken("in/b.mp4")
    ran = video("in", "-o", "out", "--report", "report.json", model="no-such-model")
    assert ran.status == 3 and ran.err.count("cannot be read as a video") == 2
    assert [one["status"] for one in report()["videos"]] == ["failed", "failed"]
    assert ran.out.splitlines()[-1].endswith(": 2 failed")


def test_a_run_that_was_ended_goes_on(video, network):
    """What is finished is skipped on request, and the unfinished video resumes."""
    film("in/a.mkv")
    film("in/b.mkv", 30)
    network.fails_after = 20
    assert video("in", "-o", "out").status == 1
    assert file_names(Path("out")) == [".b.mkv.unfinished.lock", "a.mkv", "b.mkv.unfinished"]
    network.fails_after, faces = None, network.faces
    again = ("in", "-o", "out", "--skip-existing", "--report", "report.json")
    ran = video(*again)
    assert ran.status == 0 and network.faces - faces < 30
    assert ran.out.splitlines()[0] == f"{Path('out/a.mkv')}: skipped, it already exists"
    assert [one["status"] for one in report()["videos"]] == ["skipped", "restored"]
    assert report()["videos"][1]["segments_found"] > 0
    ran = video("in/a.mkv", "-o", "out/a.mkv", "--skip-existing")
    assert (ran.status, ran.out) == (0, f"{Path('out/a.mkv')}: skipped, it already exists\n")


def test_progress_for_programs_counts_videos(video, network):
    film("a.mkv")
    film("b.mkv")
    ran = video("a.mkv", "b.mkv", "-o", "out", "--progress", "json", "-q")
    events = [json.loads(line) for line in ran.err.splitlines()]
    assert [(one["done"], one["total"]) for one in events if one["unit"] == "video"] == [(0, 2), (1, 2)]


def test_the_second_video_takes_as_long_as_the_first(video, network):
    film("in/a.mkv")
    film("in/b.mkv")
    ran = video("in", "-o", "out", "--codec", "ffv1", "--progress", "json")
    told = [json.loads(line) for line in ran.err.splitlines() if line.startswith("{")]
    first, second = (one["total_seconds_left"] for one in told if one["stage"] == "analyze" and one["done"] == 1)
    assert first is None and second is not None


def test_a_preview_of_each(video, network):
    film("a.mkv")
    film("b.mkv")
    broken("c.mkv")
    ran = video("a.mkv", "b.mkv", "c.mkv", "-o", "out", "--preview", 2)
    assert ran.status == 1 and "c.mkv cannot be read as a video" in ran.err
    assert file_names(Path("out")) == ["a.preview.jpg", "b.preview.jpg"] and network.loads == 1


def test_masks_of_several_videos_have_their_names(video, network):
    film("a.mkv")
    film("b.mkv")
    Path("masks").mkdir()
    Image.new("L", (8, 8)).save("masks/a.png")
    ran = video("a.mkv", "b.mkv", "-o", "out", "--region-mask", "masks")
    assert ran.status == 1 and "b.mkv needs one mask of its name in masks, but there is none. Add" in ran.err
    video_files.write_video(Path("masks/b.mkv"), 4, (16, 16), "ffv1", pictures=[np.full((16, 16, 3), 255, np.uint8)] * 4)
    ran = video("a.mkv", "b.mkv", "-o", "out", "--region-mask", "masks", "--codec", "ffv1", "--report", "report.json")
    assert ran.status == 0 and [one["status"] for one in report()["videos"]] == ["unchanged", "restored"]
    Image.new("L", (8, 8)).save("mask.png")
    ran = video("a.mkv", "b.mkv", "-o", "out", "--region-mask", "mask.png", "--codec", "ffv1", "--report", "report.json")
    assert ran.status == 0 and [one["status"] for one in report()["videos"]] == ["unchanged", "unchanged"]


def test_a_mask_that_does_not_fit_is_refused_before_anything_is_loaded(video):
    film("a.mkv", 30)
    film("mask.mkv", 20)
    ran = video("a.mkv", "-o", "b.mkv", "--region-mask", "mask.mkv", model="no-such-model")
    assert ran.status == 3 and "mask.mkv has 20 frames, but the video has 30. Give a mask for each frame" in ran.err
    ran = video("a.mkv", "-o", "b.mkv", "--region-mask", "none.png", model="no-such-model")
    assert ran.status == 3 and "none.png cannot be read" in ran.err


def test_a_preview_of_seconds_never_replaces_a_result(video, network):
    film("a.mkv")
    film("b.mkv")
    preview = "c.preview.mkv"
    for out in ("c.mkv", "c.preview.mkv", "c"):
        ran = video("a.mkv", "-o", out, "--preview", "1s", "-q")
        assert (ran.status, file_names(Path())) == (0, ["a.mkv", "b.mkv", preview])
        Path(preview).unlink()
    ran = video("a.mkv", "b.mkv", "-o", "out", "--preview", "1s")
    assert ran.status == 0 and file_names(Path("out")) == ["a.preview.mkv", "b.preview.mkv"]
    text = f"{Path('out/a.preview.mkv')}: 2 frames, original and restored side by side"
    assert ran.out.splitlines()[0] == text and probe(Path("out/b.preview.mkv")).size == (2 * SIZE[0], SIZE[1])


@pytest.mark.parametrize("text", ["s", "0s", "-1s", "nans", "infs", "1.5", "ten", ""])
def test_previews_that_are_none(video, text):
    film("a.mkv")
    ran = video("a.mkv", "-o", "b.mkv", f"--preview={text}", model="no-such-model")
    assert ran.status == 2 and "expected a number of frames such as 8, or seconds such as 10s" in ran.err


LONG = "n" * 300  # as in a folder that may not be read, each check of such a path raises an error


def test_a_path_that_cannot_be_looked_at_fails_alone(video, network):
    film("in/a.mkv")
    Path("list.txt").write_text(f"{LONG}.mkv\nin/a.mkv\n")
    ran = video("--input-list", "list.txt", "-o", "out/", "--codec", "ffv1", "--skip-existing")
    assert ran.status == 1 and f"gpen: {LONG}.mkv cannot be read: " in ran.err
    assert file_names(Path("out/in")) == ["a.mkv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((f"{LONG}.mkv", "-o", "out.mkv"), f"{LONG}.mkv cannot be read: "),
        (("in/a.mkv", "-o", f"{LONG}.mkv", "--skip-existing"), f"{LONG}.mkv cannot be written: "),
        (("in/a.mkv", "-o", "out.mkv", "--region-mask", f"{LONG}.png"), f"{LONG}.png cannot be read: "),
        (("in", "in/a.mkv", "-o", "out/", "--region-mask", LONG), f"{LONG} cannot be read: "),
        (("in/a.mkv", "-o", "out/", "--skip-existing", "--report", f"{LONG}.jsonl"), f"{LONG}.jsonl cannot be written: "),
    ],
)
def test_no_name_ends_a_run_as_an_unexpected_error(video, network, arguments, message):
    film("in/a.mkv")
    ran = video(*arguments, "--codec", "ffv1")
    assert ran.status in (1, 3) and message in ran.err and "Unexpected" not in ran.err


@pytest.mark.parametrize("inputs", [("in/a.mkv", "-o", "out.mkv"), ("in", "-o", "out/")])
def test_a_report_that_cannot_be_written_ends_the_run_before_its_work(video, network, inputs):
    film("in/a.mkv")
    Path("file").write_bytes(b"")
    ran = video(*inputs, "--codec", "ffv1", "--report", "file/report.json")
    assert (ran.status, network.loads) == (1, 0) and "Nothing can be written to file: " in ran.err
    assert ran.err.endswith("Choose another --report.\n") and file_names(Path()) == ["file", "in"]
