"""What `gpen video` does, says and leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import video_fakes
import video_files
from cli_fixtures import file_names
from PIL import Image
from video_fakes import SIZE, frames

from gpen_core import Interrupted
from gpen_core.cli import video_preview, video_run
from gpen_core.cli.main import make_parser
from gpen_core.video import first_pass, segments
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader
from gpen_core.video.work_dir import WorkDir

pytest_plugins = ["cli_fixtures"]

ROOT = Path(__file__).resolve().parents[2]
COUNT = 12


@pytest.fixture
def film(tmp_path):
    """Twelve frames of one face at 2 a second, lossless, with sound: segments of five seconds have ten."""
    path = tmp_path / "film.mkv"
    return video_files.write_video(path, COUNT, SIZE, "ffv1", rate=2, pictures=list(frames(COUNT)), sound="aac")


@pytest.fixture
def stand_in(monkeypatch):
    """The network of `video_fakes` in place of what the arguments name; it inverts."""
    runner, network = video_fakes.restorer()
    for module in (video_run, video_preview):
        monkeypatch.setattr(module, "load_restorer", lambda given, options: runner)
    return network


def pixels(path):
    return [np.array(frame.image.pixels) for frame in FrameReader(probe(path)).frames()]


# A video


@pytest.mark.slow
def test_a_report_in_json_lines_is_one_line(video, film, tmp_path):
    told = tmp_path / "report.jsonl"
    assert video(film, "-o", tmp_path / "out.mkv", "--codec", "ffv1", "--report", told).status == 0
    (line,) = told.read_text("utf-8").splitlines()
    assert json.loads(line)["frame_count"] == COUNT


@pytest.mark.slow
def test_a_video_with_its_sound_and_a_report(video, film, tmp_path):
    """Real detection and a real network, which adds red."""
    out, told = tmp_path / "new" / "out.mkv", tmp_path / "report.json"
    ran = video(film, "-o", out, "--codec", "ffv1", "--report", told)
    assert (ran.status, ran.err) == (0, "")
    text = f"{out}: {COUNT} frames, 1 person: 1 restored, 0 skipped ("
    assert ran.out.startswith(text) and ran.out.endswith(" s)\n")
    assert file_names(tmp_path / "new") == ["out.mkv"] and video_files.digests(out) == video_files.digests(film)
    before, after = np.stack(pixels(film)).astype(float), np.stack(pixels(out)).astype(float)
    more = (after - before)[:, 84:110, 108:134].mean(axis=(1, 2))  # [COUNT, 3]
    assert (more[:, 0] > more[:, 1:].max(1) + 20).all() and np.array_equal(before[:, :, :8], after[:, :, :8])
    content = json.loads(told.read_text("utf-8"))
    assert (content["model"], content["input"], content["output"]) == ("red-256", str(film), str(out))
    assert content["frame_count"] == COUNT and content["video"]["codec"] == "ffv1" and "error" not in content
    assert [one["restored"] for one in content["frames"]] == [[0]] * COUNT
    (track,) = content["tracks"]
    assert (track["network"], track["restored"], track["reason"]) == (256, COUNT, None)
    assert (content["segments"], content["segments_found"]) == (2, 0) and content["seconds"]["network"] > 0


def test_a_video_without_faces_is_one_too(video, tmp_path):
    film = video_files.write_video(tmp_path / "plain.mp4", 3, sound="aac")
    ran = video(film, "-o", tmp_path / "out.mp4")
    first, advice = ran.out.splitlines()
    assert ran.status == 0 and "3 frames, no people (" in first
    assert re.fullmatch(r"  detectable faces: about 16 to \d+ px\. Try a lower confidence", advice)
    assert len(pixels(tmp_path / "out.mp4")) == 3
    assert video(film, "-o", tmp_path / "out.mp4", "-q").out == ""


def test_a_video_of_odd_size_says_what_becomes_of_it(stand_in, video, tmp_path):
    film = video_files.write_video(tmp_path / "odd.mkv", 3, (95, 63), "ffv1")
    ran = video(film, "-o", tmp_path / "out.mp4")
    assert ran.status == 0 and "95 x 63 was padded to 96 x 64" in ran.err
    assert probe(tmp_path / "out.mp4").size == (96, 64)
    ran = video(film, "-o", tmp_path / "same.mkv", "--codec", "ffv1")
    assert (ran.status, ran.err) == (0, "") and probe(tmp_path / "same.mkv").size == (95, 63)


@pytest.mark.parametrize("arguments", [("--start", "0:01", "--end", "3.5"), ("--start", 1, "--end", "0:0:3.5")])
def test_a_part_of_it(stand_in, video, film, tmp_path, arguments):
    ran = video(film, "-o", tmp_path / "out.mkv", "--codec", "ffv1", *arguments)
    assert ran.status == 0
    assert all(map(np.array_equal, (one[:8] for one in pixels(film)[2:7]), (one[:8] for one in pixels(ran_to(ran)))))


def test_ranges_of_a_video_that_is_kept(stand_in, video, film, tmp_path):
    out = tmp_path / "out.mkv"
    ran = video(film, "-o", out, "--codec", "ffv1", "--range", "0-1", "--range", "0:03-0:04")
    assert ran.status == 0
    changed = [n for n, pair in enumerate(zip(pixels(film), pixels(out))) if not np.array_equal(*pair)]
    assert changed == [0, 1, 6, 7] and video_files.digests(out) == video_files.digests(film)
    ran = video(film, "-o", out, "--range", "2-1")
    assert ran.status == 2 and "range is '2-1'; expected an end after the start." in ran.err


def ran_to(ran):
    """The output that it names."""
    return Path(ran.out.partition(": ")[0])


def test_seconds_as_they_are_written():
    texts = ("0", "83.5", "1:23.5", "1:02.5", "01:00:00", "90:00")
    given = [make_parser().parse_args(["video", "in.mp4", "-o", "out.mp4", "--start", text]) for text in texts]
    assert [one.start for one in given] == [0, 83.5, 83.5, 62.5, 3600, 5400]


@pytest.mark.parametrize("text", ["x", "", ":", "1:", "1:60", "1:2:3:4", "-1", "1:-2", "nan", "inf", "0x10"])
def test_seconds_that_are_none(video, film, tmp_path, text):
    ran = video(film, "-o", tmp_path / "out.mkv", f"--end={text}")
    assert ran.status == 2 and file_names(tmp_path) == ["film.mkv"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--fps", 12), "Set a frame rate only for a folder of images"),
        (("--codec", "h266"), "Unknown video encoder 'h266'"),
        (("--codec", "ffv1", "--crf", 3), "ffv1 has no quality"),
        (("--crf", 99), "from 0 to 51"),
        (("--crf", 20, "--bitrate", "8M"), "crf is 20 and bitrate 8000000; expected only one"),
        (("--bitrate", "fast"), "expected bits per second such as 8M, got 'fast'"),
        (("--preset", "gradual"), "libx264 cannot encode"),
        (("--pix-fmt", "rgb999"), "does not support the pixel format 'rgb999'"),
        (("--codec", "none.json"), "none.json cannot be read: No such file"),
        (("--temporal-smoothing", 2), "temporal_smoothing is 2"),
        (("--start", 3, "--end", 2), "expected an end after the start"),
        (("--min-duration", -1), "min_duration is -1"),
        (("--preview", 0), "--preview is 0"),
        (("--faces", "none"), "faces is 'none'"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_loaded(video, film, tmp_path, arguments, says):
    ran = video(film, "-o", tmp_path / "out.mkv", *arguments, model="no-such-model")
    assert ran.status == 2 and says in ran.err and file_names(tmp_path) == ["film.mkv"]


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("out.txt", 2, ".txt files cannot be written. Available: .mp4"),
        ("out.webm", 3, r"A .webm file cannot hold video encoded with libx264"),
        ("out.avi", 3, "A .avi file cannot hold stream 2 (subtitle, "),
        ("film.mkv", 2, "is an input and would be overwritten"),
        ("file", 2, "is a file, but an output without a suffix is a folder of images"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_anything_is_loaded(video, tmp_path, name, status, says):
    film = video_files.write_video(tmp_path / "film.mkv", 30, sound="aac", subtitle=True)
    (tmp_path / "file").write_bytes(b"")
    codec = ("--codec", "h264") if name == "out.webm" else ()
    content = film.read_bytes()
    ran = video(film, "-o", tmp_path / name, *codec, model="no-such-model")
    assert ran.status == status and says in ran.err
    assert file_names(tmp_path) == ["file", "film.mkv"] and film.read_bytes() == content


def test_a_report_that_would_be_in_the_way(video, film, tmp_path):
    content = film.read_bytes()
    for report, says in ((film, "would overwrite"), (tmp_path / "out.mkv", "would overwrite"), (tmp_path, "is a folder")):
        ran = video(film, "-o", tmp_path / "out.mkv", "--report", report)
        assert ran.status == 2 and says in ran.err and film.read_bytes() == content
    assert file_names(tmp_path) == ["film.mkv"]


def sound_only(path):
    with av.open(str(path), "w") as out:
        heard = out.add_stream("aac", rate=48000)
        heard.layout = "mono"
        for packet in video_files.sine(heard, 0.5):
            out.mux(packet)
    return path


def no_frames(path):
    with av.open(str(path), "w") as out:
        heard, shown = out.add_stream("aac", rate=48000), out.add_stream("libx264", rate=25)
        heard.layout, shown.width, shown.height, shown.pix_fmt = "mono", 96, 64, "yuv420p"
        out.start_encoding()
        for packet in video_files.sine(heard, 0.5):
            out.mux(packet)
    return path


def no_film(path):
    path.write_bytes(b"this is no film" * 100)
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path, "No such file"),
        (no_film, "cannot be read as a video"),
        (sound_only, "has no video stream, only audio"),
        (no_frames, "has no "),
    ],
)
def test_a_video_that_is_none(video, tmp_path, make, says):
    """Said before anything is loaded, and in the report."""
    told = tmp_path / "report.json"
    ran = video(make(tmp_path / "in.mkv"), "-o", tmp_path / "out.mkv", "--report", told, model="no-such-model")
    assert ran.status == 3 and says in ran.err
    assert says in json.loads(told.read_text("utf-8"))["error"]
    assert set(file_names(tmp_path)) <= {"in.mkv", "report.json"}


def test_a_start_behind_the_end_of_the_video(video, film, tmp_path):
    ran = video(film, "-o", tmp_path / "out.mkv", "--start", "1:00", model="no-such-model")
    assert (
        ran.status == 3 and "there is no frame after the start at 60 s" in ran.err and file_names(tmp_path) == ["film.mkv"]
    )


def test_a_start_and_an_end_between_two_frames(video, film, tmp_path):
    ran = video(film, "-o", tmp_path / "out.mkv", "--start", "0.6", "--end", "0.9")
    assert ran.status == 3 and "none between the start and the end" in ran.err and file_names(tmp_path) == ["film.mkv"]


def test_a_video_that_was_cut_off_is_restored_as_far_as_it_goes(stand_in, video, film, tmp_path):
    data = film.read_bytes()
    film.write_bytes(data[: len(data) * 2 // 3])
    ran = video(film, "-o", tmp_path / "out.mkv", "--report", tmp_path / "report.json")
    assert ran.status == 0 and "The video was cut off: it ends after" in ran.err
    told = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert 4 <= told["frame_count"] < COUNT and len(pixels(tmp_path / "out.mkv")) == told["frame_count"]
    assert any("cut off" in note for note in told["notes"])


@pytest.mark.slow
def test_a_run_that_goes_on_says_too_that_the_video_was_cut_off(stand_in, video, tmp_path):
    pictures = list(frames(30))
    film = video_files.write_video(tmp_path / "long.mkv", 30, SIZE, "ffv1", rate=2, pictures=pictures)
    film.write_bytes(film.read_bytes()[:-100_000])
    stand_in.fails_after = 18
    assert video(film, "-o", tmp_path / "out.mkv").status == 1
    stand_in.fails_after = None
    ran = video(film, "-o", tmp_path / "out.mkv", "--report", tmp_path / "report.json")
    told = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert ran.status == 0 and told["segments_found"] >= 1 and any("cut off" in note for note in told["notes"])


# A folder of images


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for n, picture in enumerate(frames(3)):
        Image.fromarray(picture).save(tmp_path / "in" / f"shot {n}.png")
    return tmp_path / "in"


def test_a_folder_of_images_at_a_rate_of_its_own(stand_in, video, folder, tmp_path):
    assert video(folder, "-o", tmp_path / "out.mp4", "--fps", 12).status == 0
    assert probe(tmp_path / "out.mp4").frame_rate == 12
    assert video(folder, "-o", tmp_path / "pictures", "--fps", 12).status == 0
    assert file_names(tmp_path / "pictures") == file_names(folder) and file_names(tmp_path) == ["in", "out.mp4", "pictures"]


def test_rates_that_cannot_be(video, folder, tmp_path):
    for fps in (0, -1, "nan", 1e-9):
        assert video(folder, "-o", tmp_path / "out.mp4", f"--fps={fps}").status == 2
    assert file_names(tmp_path) == ["in"]


def test_folders_with_nothing_in_them_or_of_two_sizes(stand_in, video, folder, tmp_path):
    Image.new("RGB", (30, 40)).save(folder / "shot 3.png")
    ran = video(folder, "-o", tmp_path / "out.mp4")
    assert ran.status == 3 and "All frames must have one size" in ran.err and file_names(tmp_path) == ["in"]
    (tmp_path / "empty").mkdir()
    ran = video(tmp_path / "empty", "-o", tmp_path / "out.mp4")
    assert ran.status == 3 and "No videos and no frames (" in ran.err


def test_this_folder_is_written_by_its_name(stand_in, video, folder, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert video(folder, "-o", ".").status == 0
    assert file_names(tmp_path / "here") == file_names(folder) and file_names(tmp_path) == ["here", "in"]


def test_what_lies_beside_the_images_does_not_count(stand_in, video, folder, tmp_path):
    """The next run goes on although a file browser has left a file there."""
    stand_in.fails_after = 1
    assert video(folder, "-o", tmp_path / "out.mp4").status == 1
    (kept,) = (tmp_path / "out.mp4.unfinished").glob("*/analysis.npz")
    stamp = kept.stat().st_mtime_ns
    (folder / "Thumbs.db").write_bytes(b"x")
    assert video(folder, "-o", tmp_path / "out.mp4").status == 1
    assert [path.stat().st_mtime_ns for path in (tmp_path / "out.mp4.unfinished").glob("*/analysis.npz")] == [stamp]


# A preview


@pytest.mark.parametrize(
    "arguments", [("--report", "report.json"), ("--restart",), ("--skip-existing",), ("--tracks", "people"), ("--ray",)]
)
@pytest.mark.parametrize("preview", ["3", "1s"])
def test_a_preview_refuses_what_only_a_whole_run_uses(video, film, tmp_path, preview, arguments):
    ran = video(film, "-o", tmp_path / "out.mkv", "--preview", preview, *arguments)
    assert ran.status == 2 and f"--preview does not use {arguments[0]}. Remove one of them." in ran.err


def test_a_preview_of_seconds_says_what_face_numbers_count(stand_in, video, film, tmp_path):
    ran = video(film, "-o", tmp_path / "out.mkv", "--preview", "1s", "--faces", 0)
    assert ran.status == 0 and f"gpen: {film}: The numbers of faces count only the people from 2.50 s on." in ran.err


def test_a_preview_beside_the_output_or_under_its_own_name(stand_in, video, film, tmp_path):
    for name, preview in (("out.mkv", "out.preview.jpg"), ("sheet.png", "sheet.png"), ("out", "out.preview.jpg")):
        ran = video(film, "-o", tmp_path / "new" / name, "--preview", 3)
        assert (ran.status, ran.out) == (0, f"{tmp_path / 'new' / preview}: 3 frames before and after\n")
        sheet = np.asarray(Image.open(tmp_path / "new" / preview), float)
        width, height = SIZE
        assert sheet.shape[1] == 2 * width + 8 and sheet.shape[0] == 3 * (height + 34)
        before, after = (sheet[34:][:height][:, left:][:, :width] for left in (0, width + 8))
        assert np.abs(255 - before - after)[88:104, 112:128].mean() < 8
        assert np.abs(before - after)[:8].mean() < 4
    assert file_names(tmp_path / "new") == ["out.preview.jpg", "sheet.png"] and file_names(tmp_path) == ["film.mkv", "new"]


# Going on


@pytest.fixture
def short_segments(monkeypatch):
    """Of four frames."""
    monkeypatch.setattr(segments, "MIN_SEGMENT_SECONDS", 2.0)
    monkeypatch.setattr(segments, "MAX_SEGMENT_SECONDS", 2.0)


@pytest.mark.slow
def test_a_mistake_that_is_none_of_ours_is_told_and_what_is_finished_is_kept(
    stand_in, short_segments, video, film, tmp_path
):
    stand_in.fails_after = 10
    ran = video(film, "-o", tmp_path / "out.mkv", "--report", tmp_path / "report.json")
    assert ran.status == 1 and "the network broke" in ran.err and file_names(tmp_path / "out.mkv.unfinished") != []
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["error"] == "the network broke"
    stand_in.fails_after = None
    ran = video(film, "-o", tmp_path / "out.mkv", "--report", tmp_path / "report.json")
    told = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert ran.status == 0 and (told["segments"], told["segments_found"]) == (3, 1)


@pytest.mark.slow
def test_fresh_begins_anew(stand_in, short_segments, video, film, tmp_path):
    stand_in.fails_after = 10
    assert video(film, "-o", tmp_path / "out.mkv").status == 1
    stand_in.fails_after, stand_in.faces = None, 0
    assert video(film, "-o", tmp_path / "out.mkv", "--restart").status == 0 and stand_in.faces == COUNT


def test_two_runs_on_one_output(stand_in, video, film, tmp_path):
    with WorkDir(tmp_path / "out.mkv").lock(False):
        ran = video(film, "-o", tmp_path / "out.mkv")
    assert ran.status == 1 and "is being written by another run" in ran.err and "goes on" not in ran.err
    assert video(film, "-o", tmp_path / "out.mkv").status == 0


def test_an_interruption_in_the_first_pass_leaves_nothing(stand_in, video, film, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise Interrupted("enough")

    monkeypatch.setattr(first_pass, "track_faces", interrupted)
    ran = video(film, "-o", tmp_path / "out.mkv")
    assert ran.status == 130 and "goes on" not in ran.err
    assert [name for name in file_names(tmp_path) if not name.endswith(".lock")] == ["film.mkv"]


@pytest.fixture
def small_disk():
    """Called with a number, it allows files of no more bytes than that, until the end."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (soft if most is None else most, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def limited(stand_in, small_disk, after, most):
    """The disk is full after so many faces."""
    change = stand_in.change

    def full(crop):
        if stand_in.faces >= after:
            small_disk(most)
        return change(crop)

    stand_in.change = full


@pytest.mark.parametrize("where", ["segment", "join"])
@pytest.mark.slow
def test_a_disk_that_fills(stand_in, short_segments, small_disk, video, film, tmp_path, where):
    """One message, nothing half-written, and when there is space again what was finished is not done anew."""
    out, count = tmp_path / "out.mkv", 32  # the network is some frames ahead of the disk
    video_files.write_video(film, count, SIZE, "ffv1", rate=2, pictures=list(frames(count)))
    segment = film.stat().st_size * 4 // count
    limited(stand_in, small_disk, *((28, segment // 2) if where == "segment" else (count, segment * 2)))
    ran = video(film, "-o", out, "--codec", "ffv1")
    small_disk(None)
    assert ran.status == 1 and ran.err.count("cannot be written: File too large") == 1
    assert f"Finished parts are kept in {out}.unfinished. Run the same command to resume." in ran.err
    assert [name for name in file_names(tmp_path) if not name.startswith(".")] == ["film.mkv", "out.mkv.unfinished"]
    assert not list(tmp_path.rglob(".*.part"))
    stand_in.change, stand_in.faces = video_fakes.invert, 0
    ran = video(film, "-o", out, "--codec", "ffv1", "--report", tmp_path / "report.json")
    found = json.loads((tmp_path / "report.json").read_text("utf-8"))["segments_found"]
    assert ran.status == 0 and len(pixels(out)) == count and file_names(tmp_path) == ["film.mkv", "out.mkv", "report.json"]
    assert (found, stand_in.faces) == (8, 0) if where == "join" else 1 <= found < 8 and stand_in.faces < count


# What is missing


def test_without_pyav_it_names_the_extra(video, film, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    ran = video(film, "-o", tmp_path / "out.mkv")
    assert ran.status == 1 and f"{sys.executable} -m pip install av" in ran.err and file_names(tmp_path) == ["film.mkv"]


def test_without_pyav_a_folder_becomes_a_folder(stand_in, video, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert video(folder, "-o", tmp_path / "out").status == 0 and file_names(tmp_path / "out") == file_names(folder)


def test_without_weights(video, film, tmp_path):
    ran = video(film, "-o", tmp_path / "out.mkv", "--report", tmp_path / "report.json", model="gpen-bfr-512")
    assert ran.status == 4 and "GPEN-BFR-512" in ran.err
    assert "GPEN-BFR-512" in json.loads((tmp_path / "report.json").read_text("utf-8"))["error"]
    assert file_names(tmp_path) == ["film.mkv", "report.json"]


# As a program of its own

PROGRAM = """
import sys
sys.path.insert(0, "tests")
import video_fakes
from gpen_core.cli import main, video_run
from gpen_core.video import segments
segments.MIN_SEGMENT_SECONDS = segments.MAX_SEGMENT_SECONDS = 2.0
seconds = float(sys.argv.pop(1))
video_run.load_restorer = lambda given, options: video_fakes.restorer(seconds=seconds)[0]
sys.exit(main())
"""


def started(film, out, *arguments, seconds=0.0):
    """The command line in a process of its own, with a network that takes so long for each face."""
    command = [sys.executable, "-c", PROGRAM, seconds, "video", film, "-o", out, *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*map(str, command)], cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finished(out):
    """Segments that wait."""
    return len(list(Path(f"{out}.unfinished").glob("*/*.json")))


def ended(film, out, report, name):
    """A run that gets this signal when it has finished one segment more: its exit status and stderr.

    It ends within a frame: at most the segment that it is in is still finished."""
    found = finished(out)
    ran = started(film, out, "--report", report, seconds=0.2)
    while finished(out) <= found:
        assert ran.poll() is None, (name, ran.communicate())
        time.sleep(0.02)
    before = finished(out)
    ran.send_signal(getattr(signal, name))
    _, said = ran.communicate(timeout=60)
    assert before <= finished(out) <= before + 1, name
    return ran.returncode, said


@pytest.mark.skipif(os.name != "posix", reason="there are no such signals")
@pytest.mark.slow
def test_a_run_that_is_ended_three_times_in_the_second_pass_goes_on(tmp_path, interruptible):
    count = 40
    film = video_files.write_video(
        tmp_path / "film.mkv", count, SIZE, "ffv1", rate=2, pictures=list(frames(count)), sound="aac"
    )
    out, report = tmp_path / "out.mkv", tmp_path / "report.json"
    for name, status in (("SIGKILL", -9), ("SIGINT", 130), ("SIGTERM", 143)):
        report.unlink(missing_ok=True)
        code, said = ended(film, out, report, name)
        assert code == status and "Traceback" not in said and not out.exists(), name
        if name != "SIGKILL":
            assert f"Finished parts are kept in {out}.unfinished. Run the same command to resume." in said, name
            assert not list(tmp_path.rglob(".*.part")), name
            assert json.loads(report.read_text("utf-8"))["error"] in ("KeyboardInterrupt", "Terminated"), name
    before = finished(out)
    again = started(film, out, "--report", report)
    said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    told = json.loads(report.read_text("utf-8"))
    assert (told["segments"], told["segments_found"], told["frame_count"]) == (10, before, count)
    assert len(pixels(out)) == count and video_files.digests(out) == video_files.digests(film)
    assert file_names(tmp_path) == ["film.mkv", "out.mkv", "report.json"]
