"""A video from file to file: restored, whole or not at all, and gone on with after whatever ended it."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import video_files
from helpers import make_face
from video_fakes import SIZE, frame_folder, frames, identity_network, restorer
from video_files import read_frames, use_ten_frame_segments, write_lossless_video

from gpen_core import (
    InputError,
    Interrupted,
    OptionsError,
    OutputError,
    ProgressEvent,
    RestoreOptions,
    VideoOptions,
    restore_sequence,
    restore_video,
)
from gpen_core.errors import FaceNumberError
from gpen_core.video import containers
from gpen_core.video.analysis import VideoAnalysis
from gpen_core.video.preview import preview
from gpen_core.video.preview_clip import preview_clip
from gpen_core.video.restore_video import SegmentRestorer
from gpen_core.video.segments import segment_ranges
from gpen_core.video.track import Track
from gpen_core.video.track_selection import skip_reasons
from gpen_core.video.video_report import report
from gpen_core.video.work_dir import WorkDir
from gpen_core.weights.catalog import COLORIZE, INPAINT

EXACT = VideoOptions(codec="ffv1", temporal_smoothing=0)
COUNT = 30


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    """Of ten frames."""
    use_ten_frame_segments(monkeypatch)


@pytest.fixture
def film(tmp_path):
    return write_lossless_video(tmp_path / "film.mkv", COUNT)


def test_faces_are_restored_and_all_else_is_as_it_was(film, tmp_path):
    target = tmp_path / "out.mkv"
    result = restore_video(film, target, restorer()[0], RestoreOptions(), EXACT)
    before, after = read_frames(film), read_frames(target)
    assert len(after) == COUNT and [track.frames for track in result.tracks] == [COUNT]
    for one, other in zip(before, after):
        assert np.array_equal(one[:8], other[:8]) and np.array_equal(one[:, :8], other[:, :8])  # the corners of the frame
        middle = (slice(88, 104), slice(112, 128))
        assert np.abs(255.0 - one[middle] - other[middle]).mean() < 5  # inverted, but for chroma's resolution
    assert [one for one, _ in video_files.packets(target)[1]] == [one for one, _ in video_files.packets(film)[1]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mkv", "out.mkv"]


def test_what_the_frames_show_of_a_face_can_be_kept(film, tmp_path):
    """The network inverts them."""
    restore_video(film, tmp_path / "out.mkv", restorer()[0], RestoreOptions(fidelity=1), EXACT)
    middle = (slice(88, 104), slice(112, 128))
    for one, other in zip(read_frames(film), read_frames(tmp_path / "out.mkv")):
        assert np.abs(one[middle].astype(float) - other[middle]).mean() < 5


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
@pytest.mark.slow
def test_a_run_that_was_ended_goes_on_and_gives_what_one_run_gives(film, tmp_path, smoothing):
    video = replace(EXACT, temporal_smoothing=smoothing)
    whole, broken = restorer(), restorer()
    restore_video(film, tmp_path / "whole.mkv", whole[0], None, video)
    target = tmp_path / "out.mkv"
    broken[1].fails_after = 25
    with pytest.raises(RuntimeError, match="the network broke"):
        restore_video(film, target, broken[0], None, video)
    assert not target.exists() and (tmp_path / "out.mkv.unfinished").is_dir()
    again = restorer()
    result = restore_video(film, target, again[0], None, video)
    assert result.segments[0] == 3 and result.segments[1] >= 1
    assert whole[1].faces == COUNT > again[1].faces
    assert [one.frames for one in result.tracks] == [COUNT]  # those of the first run, too
    assert all(map(np.array_equal, read_frames(target), read_frames(tmp_path / "whole.mkv")))
    assert not (tmp_path / "out.mkv.unfinished").exists()


def cut_short(path):
    """A file, or the first image of a folder."""
    path = min(path.iterdir()) if path.is_dir() else path
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("output", "name"), [("out.mkv", "000000.part"), ("out.mkv", "000000.json"), ("out", "000000.part")]
)
def test_a_damaged_segment_is_made_anew(film, tmp_path, output, name):
    """As after a power loss, or a copy of the work folder that ended early."""
    broken, again = restorer(), restorer()
    broken[1].fails_after = 25
    with pytest.raises(RuntimeError):
        restore_video(film, tmp_path / output, broken[0], None, EXACT)
    (path,) = (tmp_path / f"{output}.unfinished").glob(f"*/{name}")
    cut_short(path)
    result = restore_video(film, tmp_path / output, again[0], None, EXACT)
    restore_video(film, tmp_path / f"whole{output}", restorer()[0], None, EXACT)
    assert again[1].faces >= 10 and [one.frames for one in result.tracks] == [COUNT]
    assert all(map(np.array_equal, read_frames(tmp_path / output), read_frames(tmp_path / f"whole{output}")))


@pytest.mark.slow
def test_the_measured_steadiness_is_that_of_one_run(film, tmp_path):
    whole = restore_video(film, tmp_path / "whole.mkv", restorer()[0], None, VideoOptions(codec="ffv1"))
    broken = restorer()
    broken[1].fails_after = 25
    with pytest.raises(RuntimeError):
        restore_video(film, tmp_path / "out.mkv", broken[0], None, VideoOptions(codec="ffv1"))
    parts = restore_video(film, tmp_path / "out.mkv", restorer()[0], None, VideoOptions(codec="ffv1"))
    assert parts.tracks[0].flicker_after.rms == pytest.approx(whole.tracks[0].flicker_after.rms, rel=1e-9)
    assert 0 < whole.tracks[0].flicker_after.rms < 0.6 * whole.tracks[0].flicker_before.rms


@pytest.mark.parametrize("change", ["options", "video", "network", "film"])
@pytest.mark.slow
def test_nothing_of_another_run_is_taken(film, tmp_path, change):
    target = tmp_path / "out.mkv"
    broken = restorer()
    broken[1].fails_after = 25
    with pytest.raises(RuntimeError):
        restore_video(film, target, broken[0], None, EXACT)
    options, video, again = RestoreOptions(), EXACT, restorer()
    if change == "options":
        options = RestoreOptions(strength=0.5)
    elif change == "video":
        video = replace(EXACT, temporal_smoothing=0.5)
    elif change == "network":
        again[1].network = identity_network.__wrapped__(256)
        next(iter(again[1].network.parameters())).data[0] += 1
    else:
        video_files.write_video(film, COUNT, SIZE, "ffv1", pictures=list(frames(COUNT, seed=1)), sound="aac")
    result = restore_video(film, target, again[0], options, video)
    assert result.segments == (3, 0) and again[1].faces == COUNT
    assert any("option restart deletes them" in note for note in result.notes)


@pytest.mark.slow
def test_fresh_begins_anew(film, tmp_path):
    broken = restorer()
    broken[1].fails_after = 25
    with pytest.raises(RuntimeError):
        restore_video(film, tmp_path / "out.mkv", broken[0], None, EXACT)
    again = restorer()
    result = restore_video(film, tmp_path / "out.mkv", again[0], None, EXACT, restart=True)
    assert result.segments == (3, 0) and again[1].faces == COUNT and not result.notes


def test_each_stage_counts_in_its_own_unit_to_its_end(film, tmp_path):
    events = []
    restore_video(film, tmp_path / "out.mkv", restorer()[0], None, EXACT, progress=events.append)
    assert list(dict.fromkeys(event.stage for event in events)) == ["read", "analyze", "restore", "join"]
    texts = {event.text for event in events if event.stage in ("analyze", "restore")}
    assert texts == {"Looking for faces (pass 1 of 2)", "Restoring frames (pass 2 of 2)"}
    last = {event.stage: (event.done, event.total, event.unit) for event in events}
    assert last["read"] == (film.stat().st_size,) * 2 + ("byte",)
    assert {last[stage] for stage in ("analyze", "restore", "join")} == {(COUNT, COUNT, "frame")}


def test_two_runs_on_one_output(film, tmp_path):
    target = tmp_path / "out.mkv"
    target.write_bytes(b"what was there")
    with WorkDir(target).lock(False), pytest.raises(OutputError, match="by another run"):
        restore_video(film, target, restorer()[0], None, EXACT)
    assert target.read_bytes() == b"what was there"


@pytest.mark.slow
def test_an_interruption_stops_within_a_frame_and_keeps_what_is_finished(film, tmp_path):
    said = []

    def stop(event):
        said.append(event)
        if event.stage == "restore" and event.done == 14:
            raise Interrupted("enough")

    runner, network = restorer(seconds=0.01)
    with pytest.raises(Interrupted, match="enough"):
        restore_video(film, tmp_path / "out.mkv", runner, None, EXACT, progress=stop)
    assert network.faces <= 14 + 10  # what lies between the stages
    assert said[-1] == ProgressEvent("restore", 14, COUNT, "frame", "Restoring frames (pass 2 of 2)")
    assert not (tmp_path / "out.mkv").exists()
    assert restore_video(film, tmp_path / "out.mkv", restorer()[0], None, EXACT).segments == (3, 1)


def test_a_video_is_never_written_over_itself_nor_enlarged(film):
    content = film.read_bytes()
    with pytest.raises(OptionsError, match="is the input video"):
        restore_video(film, film, restorer()[0])
    with pytest.raises(OptionsError, match="cannot be upscaled"):
        restore_video(film, film.with_name("out.mkv"), restorer()[0], RestoreOptions(upscale=2))
    assert film.read_bytes() == content and len(list(film.parent.iterdir())) == 1


@pytest.mark.parametrize("operation", [COLORIZE, INPAINT])
def test_networks_that_color_or_fill_are_refused(film, tmp_path, operation):
    runner, network = restorer()
    network.operation = operation
    target, options = tmp_path / "out.mkv", RestoreOptions()
    for restore in (
        lambda: restore_video(film, target, runner, options, EXACT),
        lambda: list(restore_sequence(runner, lambda: frames(3))),
        lambda: SegmentRestorer(film, target, runner, options, EXACT, "0" * 16),
        lambda: preview(film, 1, runner),
        lambda: preview_clip(film, target, 0.2, runner),
    ):
        with pytest.raises(OptionsError, match="It cannot be used for videos"):
            restore()
    assert network.faces == 0 and [path.name for path in tmp_path.iterdir()] == ["film.mkv"]


def test_a_part_of_the_video(film, tmp_path):
    result = restore_video(film, tmp_path / "out.mkv", restorer()[0], None, replace(EXACT, start=0.4, end=0.8))
    assert len(result.restored) == 10
    assert all(
        map(
            np.array_equal,
            (one[:8] for one in read_frames(film)[10:20]),
            (one[:8] for one in read_frames(tmp_path / "out.mkv")),
        )
    )


def test_a_folder_of_images_and_back(tmp_path):
    from PIL import Image

    (tmp_path / "in").mkdir()
    for number, frame in enumerate(frames(12)):
        Image.fromarray(frame).save(tmp_path / "in" / f"frame {number}.png")
    restore_video(tmp_path / "in", tmp_path / "out", restorer()[0], None, VideoOptions(temporal_smoothing=0, fps=12))
    names = sorted(path.name for path in (tmp_path / "in").iterdir())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    before, after = (np.asarray(Image.open(tmp_path / where / "frame 7.png"), float) for where in ("in", "out"))
    assert np.abs(255 - before - after)[88:104, 112:128].mean() < 4 and np.array_equal(before[:8], after[:8])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_joints_of_recordings_are_searched_once(monkeypatch, tmp_path):
    """The search reads the whole file. The second pass and the sound need its result."""
    source, opened = video_files.write_video(tmp_path / "a.ts", 12, SIZE, sound="mp2"), []
    open_input = containers.open_input
    monkeypatch.setattr("gpen_core.video.reader.open_input", lambda path: opened.append(path) or open_input(path))
    restore_video(source, tmp_path / "out.ts", restorer()[0], RestoreOptions(mask_type="feather"))
    assert opened == [source] * 3  # for each pass and the search


def test_a_mask_limits_what_is_restored(film, tmp_path):
    region_mask = np.zeros((4, 4), np.float32)
    region_mask[:, :2] = 1
    restore_video(film, tmp_path / "out.mkv", restorer()[0], None, EXACT, region_mask=region_mask)
    before, after = read_frames(film)[5], read_frames(tmp_path / "out.mkv")[5]
    assert np.array_equal(before[:, 170:], after[:, 170:]) and not np.array_equal(before[:, 100:110], after[:, 100:110])


@pytest.mark.slow
def test_a_face_that_is_gray_stays_so(tmp_path):
    gray = [np.repeat(frame.mean(2, keepdims=True), 3, 2).astype(np.uint8) for frame in frames(COUNT)]
    video_files.write_video(tmp_path / "gray.mkv", COUNT, SIZE, "ffv1", pixels="yuv444p", pictures=gray)
    runner, _ = restorer(lambda crop: crop + np.array((0.3, 0, 0)))
    restore_video(tmp_path / "gray.mkv", tmp_path / "out.mkv", runner, None, EXACT)
    assert max(np.ptp(frame.astype(int), axis=2).max() for frame in read_frames(tmp_path / "out.mkv")) <= 3


def test_the_strength_0_leaves_all_frames_as_they_are(film, tmp_path):
    runner, network = restorer()
    result = restore_video(film, tmp_path / "out.mkv", runner, RestoreOptions(strength=0), EXACT)
    assert network.faces == 0 and [one.reason for one in result.tracks] == ["at zero strength"]
    assert all(map(np.array_equal, read_frames(film), read_frames(tmp_path / "out.mkv")))


@pytest.mark.slow
def test_the_report_has_tracks_frames_and_flicker(film, tmp_path):
    runner, _ = restorer()
    options, video = RestoreOptions(), VideoOptions(codec="ffv1", temporal_smoothing=1)
    result = restore_video(film, tmp_path / "out.mkv", runner, options, video)
    told = json.loads(report(runner, {"model": "m"}, options, video, result))
    (track,) = told["tracks"]
    assert (track["number"], track["first"], track["last"], track["restored"]) == (0, 0, COUNT - 1, COUNT)
    assert 0 < track["flicker"]["after"] < track["flicker"]["before"]
    assert [one["restored"] for one in told["frames"]] == [[0]] * COUNT and told["frames"][25]["seconds"] == 1.0
    assert told["segments"] == 3 and {"decode", "detect", "network", "encode"} <= set(told["seconds"])


def test_segments_end_at_cuts():
    assert segment_ranges(0, [], 25) == []
    assert segment_ranges(25, [], 25) == [range(10), range(10, 20), range(20, 25)]


def test_segments_are_of_two_to_five_seconds(monkeypatch):
    monkeypatch.undo()
    assert segment_ranges(260, [40, 90, 120], 25) == [range(120), range(120, 245), range(245, 260)]
    assert segment_ranges(260, [10], 25) == [range(125), range(125, 250), range(250, 260)]


def track(number, side, first=0, count=50):
    box = np.tile([0.0, 0.0, side, side * 1.2], (count, 1))
    points = np.tile(make_face((side / 2, side / 2), side).landmarks, (count, 1, 1))
    return Track(number, first, points, box, np.ones(count), points, False, False, number)


def surveyed(*tracks, cuts=()):
    return VideoAnalysis((400, 300), np.arange(100), cuts, tracks, frozenset())


def test_tracks_are_left_alone_by_size_and_number():
    found = surveyed(track(0, 40.0), track(1, 100.0), track(2, 60.0), track(3, 50.0, first=50), cuts=(50,))
    reasons = skip_reasons(found, RestoreOptions(min_face_size=50), VideoOptions(), 25)
    assert reasons[0] == "smaller than the minimum: 40 px, minimum 50 px"
    assert [reasons[n] for n in (1, 2, 3)] == [None] * 3
    reasons = skip_reasons(found, RestoreOptions(max_face_size=60), VideoOptions(), 25)
    assert reasons[1] == "larger than the maximum: 100 px, maximum 60 px" and reasons[2] is None
    reasons = skip_reasons(found, RestoreOptions(max_faces=1), VideoOptions(), 25)
    assert reasons[1] is None and reasons[3] is None  # of each shot
    assert reasons[2] == "not the largest face"
    assert set(skip_reasons(found, RestoreOptions(strength=0), VideoOptions(), 25).values()) == {"at zero strength"}


@pytest.mark.parametrize("faces", ["largest", "center"])
def test_one_face_is_selected_among_those_of_the_right_size(faces):
    """As in images: a face that is too large or too small does not keep another from being selected."""
    found = surveyed(track(0, 40.0), track(1, 100.0), track(2, 150.0))
    sizes = {"max_face_size": 120} if faces == "largest" else {"min_face_size": 60, "max_face_size": 120}
    reasons = skip_reasons(found, RestoreOptions(faces=faces, **sizes), VideoOptions(), 25)
    assert [number for number, reason in reasons.items() if reason is None] == [1]
    assert reasons[2] == "larger than the maximum: 150 px, maximum 120 px"


def test_a_face_of_another_size_counts_for_the_time_that_a_person_is_visible():
    small, large = track(0, 40.0, count=20), replace(track(1, 100.0, first=20, count=5), person=0)
    video = VideoOptions(min_duration=1.0)
    assert skip_reasons(surveyed(small, large), RestoreOptions(min_face_size=50), video, 25)[1] is None


def test_the_most_faces_of_a_shot_are_people_and_not_tracks():
    """A face that is hidden for a while gets a new track."""
    before, after = track(0, 100.0, count=20), replace(track(2, 100.0, first=30, count=20), person=0)
    reasons = skip_reasons(surveyed(before, track(1, 60.0), after), RestoreOptions(max_faces=1), VideoOptions(), 25)
    assert reasons == {0: None, 1: "not the largest face", 2: None}


@pytest.mark.parametrize(("stage", "done"), [("analyze", 15), ("restore", 12), ("restore", COUNT)])
def test_a_video_that_is_replaced_during_the_run_is_an_error_and_nothing_of_it_is_kept(tmp_path, stage, done):
    film = write_lossless_video(tmp_path / "film.mkv", COUNT)
    video_files.write_video(tmp_path / "other.mkv", COUNT, SIZE, "ffv1", pictures=list(frames(COUNT, seed=5)), sound="aac")

    def replace_it(event):
        if (event.stage, event.done) == (stage, done) and (tmp_path / "other.mkv").exists():  # events are repeated
            (tmp_path / "other.mkv").replace(film)

    with pytest.raises(InputError, match=r"film\.mkv changed during the run"):
        restore_video(film, tmp_path / "out.mkv", restorer()[0], None, EXACT, progress=replace_it)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mkv"]


def test_a_video_that_only_gets_another_date_is_restored(tmp_path):
    film = write_lossless_video(tmp_path / "film.mkv", COUNT)
    events = []

    def touch(event):
        events.append(event.stage)
        if (event.stage, event.done) == ("restore", 12):
            os.utime(film, (1, 1))

    restore_video(film, tmp_path / "out.mkv", restorer()[0], None, EXACT, progress=touch)
    assert (tmp_path / "out.mkv").exists() and "read" in events[events.index("restore") :]


def test_a_damaged_survey_is_told(tmp_path):
    survey = surveyed(track(0, 40.0), cuts=(50,))
    assert VideoAnalysis.load(tmp_path) is None
    survey.save(tmp_path)
    again = VideoAnalysis.load(tmp_path)
    assert again.size == (400, 300) and again.cuts == (50,) and np.array_equal(again.pts, survey.pts)
    assert np.array_equal(again.tracks[0].landmarks, survey.tracks[0].landmarks)
    (tmp_path / "analysis.npz").write_bytes((tmp_path / "analysis.npz").read_bytes()[:100])
    with pytest.raises(InputError, match="Delete it and run again"):
        VideoAnalysis.load(tmp_path)


def test_values_that_cannot_be():
    for wrong in (
        {"temporal_smoothing": 1.5},
        {"min_duration": -1},
        {"start": -1},
        {"start": 2, "end": 1},
        {"crf": 1.5},
        {"fps": 0},
        {"codec": ""},
    ):
        with pytest.raises(OptionsError):
            VideoOptions(**wrong)


def test_a_face_that_nobody_has_is_an_error_before_the_network_runs(tmp_path):
    film = write_lossless_video(tmp_path / "film.mkv", 6)
    runner, network = restorer()
    with pytest.raises(FaceNumberError, match=r"there is no face 7: the only face is 0\. To list the faces"):
        restore_video(film, tmp_path / "out.mkv", runner, RestoreOptions(faces="0,7"), EXACT)
    part = replace(EXACT, start=0, end=0.5, ranges="0.1-0.2")
    with pytest.raises(FaceNumberError, match=r"there is no face 7: the only face is 0\. To list the faces, run: .* DIR$"):
        restore_video(film, tmp_path / "out.mkv", runner, RestoreOptions(faces="0,7"), EXACT)
    with pytest.raises(FaceNumberError, match=r"run: gpen detect .*film\.mkv -o DIR, with the same start, end and ranges$"):
        restore_video(film, tmp_path / "out.mkv", runner, RestoreOptions(faces="7"), part)
    folder = frame_folder(tmp_path / "frames", frames(6))
    with pytest.raises(
        FaceNumberError, match=r"there is no face 7: the only face is 0\. .* report with the option faces set to all"
    ):
        restore_video(folder, tmp_path / "out.mkv", runner, RestoreOptions(faces="7"), EXACT)
    assert network.faces == 0 and not (tmp_path / "out.mkv").exists()
