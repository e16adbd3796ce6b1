"""Which videos a run means, and where their results go."""

from pathlib import Path

import pytest
import video_files
from PIL import Image

from gpen_core import InputError, OptionsError, OutputError, VideoOptions
from gpen_core.batch.input_kinds import VIDEOS
from gpen_core.batch.read_files import ReadFiles
from gpen_core.batch.sources import Sources
from gpen_core.batch.video_plan import VideoOutputSpec, plan_videos
from gpen_core.options import VIDEO_FORMATS
from gpen_core.video.containers import INPUT_SUFFIXES, OUTPUT_FORMATS


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def files(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"a video")


def frames(folder, count=2):
    Path(folder).mkdir(parents=True, exist_ok=True)
    for n in range(count):
        Image.new("RGB", (32, 32)).save(Path(folder) / f"{n}.png")


def plan(*arguments, out="out", recursive=False, listing=None, **output):
    sources = Sources(arguments, listing, recursive, Path(out), kind=VIDEOS)
    return plan_videos(sources, VideoOutputSpec(Path(out), **output), VideoOptions())


def names(*arguments, **given):
    """Of each job: input and output."""
    return [(job.source.as_posix(), job.target.as_posix()) for job in plan(*arguments, **given).jobs]


def test_the_suffixes_are_those_of_the_containers():
    assert (*(suffix[1:] for suffix in OUTPUT_FORMATS), "png") == VIDEO_FORMATS and set(OUTPUT_FORMATS) < set(INPUT_SUFFIXES)


def test_one_named_video_becomes_the_output_itself():
    files("a.mp4")
    frames("shot")
    for source, out in (("a.mp4", "b.mkv"), ("a.mp4", "pictures"), ("shot", "b.mkv"), ("missing.mp4", "b.mp4")):
        assert names(source, out=out) == [(source, out)] and plan(source, out=out).is_single
    assert names("a.mp4", out="out", is_folder=True) == [("a.mp4", "out/a.mp4")]


def test_several_videos_go_into_a_folder_each_once():
    files("a.mp4", "b.MOV", "c.mkv")
    assert names("a.mp4", "b.MOV", "./a.mp4") == [("a.mp4", "out/a.mp4"), ("b.MOV", "out/b.MOV")]
    assert names("a.mp4", "c.mkv", suffix="_new") == [("a.mp4", "out/a_new.mp4"), ("c.mkv", "out/c_new.mkv")]
    assert names("*.m*", format="mkv") == [("a.mp4", "out/a.mkv"), ("c.mkv", "out/c.mkv")]
    assert names("a.mp4", "c.mkv", format="png", suffix=".x") == [("a.mp4", "out/a_x"), ("c.mkv", "out/c_x")]


def test_a_folder_of_videos_leaves_out_the_rest_aloud(caplog):
    files("films/b.mp4", "films/a.webm", "films/poster.jpg", "films/notes.txt", "films/.hidden.mp4", "films/deep/c.mp4")
    assert names("films") == [("films/a.webm", "out/a.webm"), ("films/b.mp4", "out/b.mp4")]
    assert "Left out: 1 .txt, 1 .jpg, 1 subfolder with videos (to read them: --recursive)." in caplog.text
    assert names("films", recursive=True)[2] == ("films/deep/c.mp4", "out/deep/c.mp4")
    assert not plan("films").is_single and plan("films").left_out[".jpg"] == 1


def test_a_list_keeps_the_whole_path():
    files("x/a.mp4", "y/a.mp4")
    Path("list.txt").write_text("x/a.mp4\ny/a.mp4\n")
    assert names(listing=Path("list.txt")) == [("x/a.mp4", "out/x/a.mp4"), ("y/a.mp4", "out/y/a.mp4")]


def test_a_folder_of_frames_is_one_video():
    frames("shots/one")
    frames("shots/two.b")
    files("a.mp4")
    two = [("shots/one", "out/one.mp4"), ("shots/two.b", "out/two.b.mp4")]
    assert names("shots/one", "shots/two.b") == two == names("shots/*")
    assert names("shots/one", "a.mp4") == [two[0], ("a.mp4", "out/a.mp4")]
    files("shots/one/restored.mp4")  # the result of an earlier run
    assert names("shots/one", out="shots/one/restored.mp4") == [("shots/one", "shots/one/restored.mp4")]
    assert names("shots/one") == [("shots/one/restored.mp4", "out/restored.mp4")]


def test_results_in_a_folder_of_frames_are_no_inputs_of_the_next_run():
    frames("shot")
    for _ in range(2):
        given = {"out": "shot/out", "is_folder": True, "recursive": True}
        assert names("shot", **given) == [("shot", "shot/out/shot.mp4")]
        files("shot/out/shot.mp4")


def test_with_recursive_images_above_videos_are_no_frames():
    frames("library", 1)
    files("library/deep/a.mp4")
    assert names("library", recursive=True) == [("library/deep/a.mp4", "out/deep/a.mp4")]


def test_a_container_that_cannot_be_written_gets_another():
    Path("in").mkdir()
    video_files.write_video(Path("in/a.mpg"), 3, codec="mpeg2video")
    files("in/b.wmv", "in/c.mp4")
    assert [out for _, out in names("in")] == ["out/a.mp4", "out/b.mp4", "out/c.mp4"]


def test_the_type_of_an_input_in_its_name_gives_each_its_own():
    files("in/a.mp4", "in/a.mov")
    with pytest.raises(OptionsError, match=r"add --suffix _\{ext\}"):
        plan("in", format="mkv")
    assert [out for _, out in names("in", format="mkv", suffix="_{ext}")] == ["out/a_mov.mkv", "out/a_mp4.mkv"]
    assert [out for _, out in names("in", format="png", suffix="_{ext}")] == ["out/a_mov", "out/a_mp4"]


def test_frames_of_a_video_do_not_go_into_the_folder_of_those_of_another():
    files("films/a.mp4", "films/a/b.mp4", "films/c/d.mp4")
    with pytest.raises(
        OptionsError, match=r"films/a\.mp4 would become out/a, which is also the folder of out/a/b.*--suffix"
    ):
        plan("films", recursive=True, format="png")
    outputs = ["out/a_new", "out/a/b_new", "out/c/d_new"]
    assert sorted(out for _, out in names("films", recursive=True, format="png", suffix="_new")) == sorted(outputs)
    assert ("films/a.mp4", "out/a.mp4") in names("films", recursive=True)


def test_a_folder_with_one_video_may_become_a_file():
    files("in/a.mp4")
    assert names("in", out="b.mkv") == [("in/a.mp4", "b.mkv")] and not plan("in", out="b.mkv").is_single


@pytest.mark.parametrize(
    ("arguments", "given", "error", "why"),
    [
        (("a.mp4", "in/a.mp4"), {}, OptionsError, "would both become"),
        (("a.mp4", "in"), {"out": "."}, OptionsError, "is an input and would be overwritten"),
        (("a.mp4", "in"), {"out": "b.mkv"}, OptionsError, r"b\.mkv is one file, but there are 2 videos"),
        (("a.mp4",), {"suffix": "_x"}, OptionsError, "--suffix and --format are for folders"),
        (("a.mp4", "in"), {"suffix": "a/b"}, OptionsError, "expected a part of a file name"),
        (("a.mp4", ""), {}, OptionsError, "An input has an empty name"),
        (("empty",), {}, InputError, r"No videos and no frames \(\.mp4, .* in empty"),
        (("above",), {}, InputError, r"No videos in above, but in subfolders\. Use --recursive\."),
        (("s3://shop/a.mp4",), {}, InputError, "is a URL, but videos are read from local files"),
        (("in", "b.mp4"), {"out": "a.mp4/x"}, OutputError, "Nothing can be written to a.mp4"),
    ],
)
def test_what_cannot_be_is_refused(arguments, given, error, why):
    files("a.mp4", "in/a.mp4", "above/below/a.mp4")
    Path("empty").mkdir()
    with pytest.raises(error, match=why):
        plan(*arguments, **given)


def test_a_report_that_would_be_in_the_way():
    files("a.mp4", "b.mp4")
    for report in ("a.mp4", "out/b.mp4"):
        with pytest.raises(OptionsError, match="would overwrite the video"):
            plan("a.mp4", "b.mp4").check_report(Path(report), ReadFiles())
