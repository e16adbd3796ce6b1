"""The people of a video are listed, and their tracks are used again by `restore_video`."""

import numpy as np
import pytest
import video_fakes
import video_files
from helpers import FakeDetector, make_face

from gpen_core import InputError, RestoreOptions, VideoOptions
from gpen_core.video import first_pass
from gpen_core.video.people import find_people
from gpen_core.video.restore_video import restore_video

COUNT, RATE = 12, 10
EXACT = VideoOptions(codec="ffv1", min_duration=0)


@pytest.fixture
def film(tmp_path):
    """Twelve frames of one face, then another picture for six frames."""
    other = [np.ascontiguousarray(255 - frame[::-1]) for frame in video_fakes.frames(6)]
    path = tmp_path / "film.mkv"
    pictures = [*video_fakes.frames(COUNT), *other]
    return video_files.write_video(path, len(pictures), video_fakes.SIZE, "ffv1", rate=RATE, pictures=pictures)


@pytest.fixture
def detections(monkeypatch):
    """How many frames were searched for faces."""
    counted, detect = [], first_pass.detect_frames

    def counting(*arguments):
        for one in detect(*arguments):
            counted.append(one[0].number)
            yield one

    monkeypatch.setattr(first_pass, "detect_frames", counting)
    return counted


def test_people_have_a_number_times_and_a_picture(film):
    result = find_people(film, FakeDetector((video_fakes.FACE,)))
    assert result.analysis.cuts == (COUNT,)
    assert [(one.number, one.times, one.frame_count, one.reason) for one in result.people] == [
        (0, ((0.0, 1.1),), COUNT, None),
        (1, ((1.2, 1.7),), 6, None),
    ]
    first, second = (one.thumbnail.astype(float) for one in result.people)
    assert first.shape == (160, 160, 3) and abs(first - second).mean() > 20
    assert all(abs(one.size - 70) < 20 for one in result.people)


def test_who_would_be_skipped_is_told(film):
    (first, second) = find_people(film, FakeDetector((video_fakes.FACE,)), video=VideoOptions(min_duration=1)).people
    assert first.reason is None and second.reason == "visible for less than the minimum: 0.6 s of 1 s"


def test_a_video_without_faces_has_no_people(film):
    assert find_people(film, FakeDetector(())).people == ()


@pytest.mark.parametrize("video", [VideoOptions(start=60), VideoOptions(ranges="60-70")])
def test_a_part_behind_the_end_is_said_before_anything_is_searched(film, detections, video):
    with pytest.raises(InputError, match=r"film\.mkv is 1\.80 s long, so there is no frame"):
        find_people(film, FakeDetector((video_fakes.FACE,)), video=video)
    assert detections == []


def test_tracks_are_used_again(film, tmp_path, detections):
    runner, _ = video_fakes.restorer()
    kept = tmp_path / "kept"
    found = find_people(film, runner.detector, tracks_folder=kept)
    assert len(detections) == COUNT + 6
    again = find_people(film, runner.detector, tracks_folder=kept)
    assert len(again.people) == len(found.people) == 2
    options = RestoreOptions(faces="1")
    reused = restore_video(film, tmp_path / "a.mkv", runner, options, EXACT, tracks_folder=kept)
    assert len(detections) == COUNT + 6
    detected = restore_video(film, tmp_path / "b.mkv", runner, options, EXACT)
    assert len(detections) == 2 * (COUNT + 6)
    assert reused.restored == detected.restored == ((),) * COUNT + ((1,),) * 6
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


def test_tracks_of_another_video_or_other_options_are_refused(film, tmp_path, detections):
    runner, network = video_fakes.restorer()
    kept, out = tmp_path / "kept", tmp_path / "out.mkv"
    with pytest.raises(InputError, match=r"has no tracks of .*film\.mkv, .* Run: gpen detect .*film\.mkv -o .*kept"):
        restore_video(film, out, runner, None, EXACT, tracks_folder=kept)
    find_people(film, runner.detector, tracks_folder=kept)
    detections.clear()
    with pytest.raises(InputError, match="another angles, another confidence, another end"):
        options, video = RestoreOptions(confidence=0.8, angles="all"), VideoOptions(codec="ffv1", end=1)
        restore_video(film, out, runner, options, video, tracks_folder=kept)
    other, _ = video_fakes.restorer(faces=(make_face((60.0, 60.0), 40.0),))
    other.detector.network = video_fakes.identity_network(256)
    with pytest.raises(InputError, match="another detector"):
        restore_video(film, out, other, None, EXACT, tracks_folder=kept)
    film.write_bytes(film.read_bytes() + b"\0")
    with pytest.raises(InputError, match="has no tracks of"):
        restore_video(film, out, runner, None, EXACT, tracks_folder=kept)
    assert network.faces == 0 and detections == [] and not out.exists()


def test_tracks_of_the_whole_video_serve_its_ranges(film, tmp_path):
    runner, _ = video_fakes.restorer()
    video = VideoOptions(codec="ffv1", ranges="1.2-1.5")
    kept = tmp_path / "kept"
    find_people(film, runner.detector, tracks_folder=kept)
    options = RestoreOptions(faces="1")
    result = restore_video(film, tmp_path / "out.mkv", runner, options, video, tracks_folder=kept)
    assert result.restored == ((),) * COUNT + ((1,),) * 3 + ((),) * 3
    of_ranges = tmp_path / "of_ranges"
    people = find_people(film, runner.detector, video=video, tracks_folder=of_ranges).people
    assert [one.reason for one in people] == ["outside of the ranges", None]
    other = VideoOptions(codec="ffv1", ranges="0-0.5")
    with pytest.raises(InputError, match="made with another range"):
        restore_video(film, tmp_path / "other.mkv", runner, None, other, tracks_folder=of_ranges)


def test_damaged_tracks_are_refused(film, tmp_path):
    runner, _ = video_fakes.restorer()
    find_people(film, runner.detector, tracks_folder=tmp_path)
    (tracks,) = tmp_path.glob("tracks/*/tracks.npz")
    tracks.write_bytes(tracks.read_bytes()[:100])
    with pytest.raises(InputError, match="is damaged"):
        restore_video(film, tmp_path / "out.mkv", runner, None, EXACT, tracks_folder=tmp_path)
