"""Only parts of a video are restored, and the rest is as it was."""

import json

import numpy as np
import pytest
import video_files
from helpers import FakeDetector, make_face
from video_fakes import SIZE, frames, restorer
from video_files import read_frames

from gpen_core import InputError, OptionsError, RestoreOptions, VideoOptions, restore_video
from gpen_core.video.analysis import VideoAnalysis
from gpen_core.video.frame_ranges import FrameRanges
from gpen_core.video.probe import probe
from gpen_core.video.track import Track
from gpen_core.video.track_selection import skip_reasons
from gpen_core.video.video_report import report

COUNT, RATE = 60, 10
RANGES = ((0.0, 0.5), (4.0, 4.5))
IN_RANGES = [*range(5), *range(40, 45)]


class CountingDetector(FakeDetector):
    """Keeps how many images it was given."""

    count = 0

    def detect(self, images, *others, near=None):
        self.count += len(images)
        return super().detect(images, *others)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Six seconds of one face, with sound."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    return video_files.write_video(path, COUNT, SIZE, "ffv1", rate=RATE, pictures=list(frames(COUNT)), sound="aac")


def test_frames_outside_of_ranges_are_kept_and_faces_fade_at_their_ends(film, tmp_path):
    runner, network = restorer()
    runner.models.detector = CountingDetector(runner.detector.faces)
    out, video = tmp_path / "out.mkv", VideoOptions(codec="ffv1", temporal_smoothing=0, ranges=RANGES)
    result = restore_video(film, out, runner, None, video)
    before, after = np.stack(read_frames(film)).astype(float), np.stack(read_frames(out)).astype(float)
    changes = np.abs(before - after)[:, 88:104, 112:128].mean(axis=(1, 2, 3))
    assert np.flatnonzero(changes).tolist() == IN_RANGES == [n for n, done in enumerate(result.restored) if done]
    assert changes[0] > 0.9 * changes.max() > 1.5 * changes[4]  # the video begins, but goes on
    assert changes[42] > 0.9 * changes.max() > 1.5 * max(changes[40], changes[44])
    assert video_files.digests(out) == video_files.digests(film)  # all of the sound
    assert [one for one, _ in video_files.packets(out)[1]] == [one for one, _ in video_files.packets(film)[1]]
    assert runner.detector.count == 15 + 25  # one second around
    assert network.faces == len(IN_RANGES)
    told = json.loads(report(runner, {}, RestoreOptions(), video, result))
    assert told["video"]["ranges"] == [[0.0, 0.5], [4.0, 4.5]] and told["frame_count"] == COUNT


def test_the_filter_and_the_tracker_see_beyond_a_range(film, tmp_path):
    """A frame at the end of a range is that of a whole run, but for the fade."""
    restore_video(film, tmp_path / "whole.mkv", restorer()[0], None, VideoOptions(codec="ffv1"))
    restore_video(film, tmp_path / "part.mkv", restorer()[0], None, VideoOptions(codec="ffv1", ranges=RANGES[1:]))
    first = (np.asarray(read_frames(path)[40], float) for path in (film, tmp_path / "whole.mkv", tmp_path / "part.mkv"))
    before, whole, part = (one[60:130, 90:150] for one in first)
    weight = (1 / 3) ** 2 * (3 - 2 / 3)
    error = np.abs(before + weight * (whole - before) - part)
    assert error.mean() < 1.5 and np.abs(whole - before).mean() > 20


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("10-20", ((10, 20),)),
        (["1:05-1:20", "0:00:30-0:40.5"], ((30, 40.5), (65, 80))),
        ("10-20,15-30", ((10, 30),)),
        (((10, 20), (20, 25), (12, 13)), ((10, 25),)),
        (None, ()),
        ([], ()),
    ],
)
def test_ranges_are_sorted_and_merged(given, kept):
    assert VideoOptions(ranges=given).ranges == kept


@pytest.mark.parametrize(
    "given",
    ["", "10", "20-10", "10-10", "a-b", "1:70-2:00", "10-", "-1-3", "1-inf", "1-2-3", 5, (10, 20), ((-1, 2),), [(1,)]],
)
def test_values_that_are_no_ranges(given):
    with pytest.raises(OptionsError, match=r"range is .*; expected"):
        VideoOptions(ranges=given)


def test_a_range_must_be_in_what_is_written(film, tmp_path):
    with pytest.raises(OptionsError, match=r"range is 5-8, but only 10 to 20 is written \(start, end\)"):
        VideoOptions(start=10, end=20, ranges="5-8,11-12")
    with pytest.raises(OptionsError, match="range is 5-8, but only 0 to 5 is written"):
        VideoOptions(end=5, ranges="5-8")
    assert VideoOptions(start=10, end=20, ranges="5-11").ranges == ((5, 11),)
    runner, network = restorer()
    with pytest.raises(InputError, match=r"is 6\.00 s long, so there is no frame in the range 7-8"):
        restore_video(film, tmp_path / "out.mkv", runner, None, VideoOptions(ranges="1-2,7-8"))
    with pytest.raises(InputError, match=r"has no frame in the range 5\.95-8: its last frame is at 5\.900 s"):
        restore_video(film, tmp_path / "out.mkv", runner, None, VideoOptions(ranges="5.95-8"))
    with pytest.raises(InputError, match=r"has no frame in the range 1\.02-1\.08: its previous frame is at 1\.000 s"):
        restore_video(film, tmp_path / "out.mkv", runner, None, VideoOptions(ranges="1.02-1.08"))
    assert network.faces == 0 and not (tmp_path / "out.mkv").exists()


def track(number, side, first, count, person=None):
    box = np.tile([0.0, 0.0, side, side * 1.2], (count, 1))
    points = np.tile(make_face((side / 2, side / 2), side).landmarks, (count, 1, 1))
    return Track(number, first, points, box, np.ones(count), points, False, False, number if person is None else person)


def test_only_people_in_the_ranges_compete(film):
    tracks = (track(0, 100.0, 0, 20), track(1, 60.0, 0, 50), track(2, 50.0, 30, 20, person=0), track(3, 40.0, 30, 20))
    pts = np.arange(COUNT) * int(1 / (RATE * probe(film).time_base))
    analysis, video = VideoAnalysis(SIZE, pts, (), tracks, frozenset()), VideoOptions(ranges="4-4.5")
    ranges = FrameRanges.from_options(video, probe(film), analysis)
    selected = {}
    for faces in ("all", "largest", "0", "2"):
        reasons = skip_reasons(analysis, RestoreOptions(faces=faces), video, RATE, ranges=ranges)
        assert reasons[0] == "outside of the ranges"
        selected[faces] = [number for number, reason in reasons.items() if reason is None]
    assert selected == {"all": [1, 2, 3], "largest": [1], "0": [2], "2": [2]}
    both = VideoOptions(ranges="0-0.2,4-4.5")
    assert FrameRanges.from_options(VideoOptions(), probe(film), analysis) is None
    reasons = skip_reasons(
        analysis, RestoreOptions(), both, RATE, ranges=FrameRanges.from_options(both, probe(film), analysis)
    )
    assert set(reasons.values()) == {None}


def test_faces_do_not_fade_at_cuts(film):
    info = probe(film)
    pts = np.arange(COUNT) * int(1 / (RATE * info.time_base))
    ranges = FrameRanges.from_options(
        VideoOptions(ranges="2-3,4-4.5"), info, VideoAnalysis(SIZE, pts, (20, 45), (), frozenset())
    )
    weights = [ranges.weight(n, RATE) for n in range(COUNT)]
    assert weights[20] == weights[44] == 1 and 0 < weights[29] < weights[28] < 1 and 0 < weights[40] < 1
    assert weights[19] == weights[30] == weights[45] == 0
