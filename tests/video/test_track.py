"""What a track tells, which tracks are chosen, and that they are read back as they were written."""

import numpy as np
import pytest

from gpen_core.errors import InputError, OutputError
from gpen_core.options import RestoreOptions, VideoOptions
from gpen_core.video.analysis import VideoAnalysis
from gpen_core.video.track import FILLED_NOTE, Track, load_tracks, save_tracks
from gpen_core.video.track_selection import skip_reasons

RATE = 25.0
SIZE = (1000, 600)


def track(number, first, count, center=(500, 300), side=100, person=None, soft=(True, True)):
    x, y = center
    box = np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2])
    landmarks = np.random.default_rng(number).normal(size=(count, 5, 2)) + center
    scores = np.linspace(0.9, 1, count)
    person = number if person is None else person
    return Track(number, first, landmarks, np.tile(box, (count, 1)), scores, landmarks + 1, *soft, person)


def reasons(tracks, faces="all", min_seconds=0.0, rate=RATE, cuts=(), frame_count=1000):
    analysis = VideoAnalysis(SIZE, np.arange(frame_count), cuts, tuple(tracks), frozenset())
    return skip_reasons(analysis, RestoreOptions(faces=faces), VideoOptions(min_duration=min_seconds), rate)


def kept(tracks, *arguments, **named):
    return [number for number, reason in reasons(tracks, *arguments, **named).items() if reason is None]


def test_a_face_of_a_frame():
    one = track(3, 10, 4)
    one.scores[1] = np.nan
    assert (len(one), one.last) == (4, 13)
    assert one.face_at(9) is None and one.face_at(14) is None
    seen, filled = one.face_at(10), one.face_at(11)
    assert (seen.note, filled.note) == (None, FILLED_NOTE)
    assert seen.score == filled.score == 0.9
    assert seen.box == (450.0, 250.0, 550.0, 350.0)
    assert np.array_equal(filled.landmarks, one.landmarks[1])


@pytest.mark.parametrize("soft", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("rate", [10.0, 25.0, 60.0])
def test_strength_grows_within_a_fifth_of_a_second_and_only_where_the_track_begins_softly(soft, rate):
    one = track(0, 100, 50, soft=soft)
    strengths = np.array([one.fade_weight(n, rate) for n in range(98, 152)])
    assert (strengths[[0, 1, -2, -1]] == 0).all() and strengths[27] == 1
    inside = strengths[2:-2]
    for values, is_soft in ((inside, soft[0]), (inside[::-1], soft[1])):
        steps = np.diff(np.concatenate(([0.0], values[:20])))
        assert (values == 1).argmax() == (round(0.2 * rate) if is_soft else 0)
        assert (steps >= 0).all()
        assert steps.max() < 0.52 if is_soft else values[0] == 1


def test_a_flash_never_comes_to_its_full_strength():
    one = track(0, 0, 3)
    assert max(one.fade_weight(n, RATE) for n in range(3)) < 0.5


def test_all_or_by_numbers():
    tracks = [track(0, 0, 50), track(1, 0, 50), track(2, 60, 50, person=0), track(3, 70, 9)]
    assert kept(tracks) == [0, 1, 2, 3]
    assert kept(tracks, (1, 3)) == [1, 3]
    assert kept(tracks, (0,)) == kept(tracks, (2,)) == [0, 2]
    assert reasons(tracks, (1,))[0] == "not asked for"


def test_by_default_seven_frames_are_too_few_unless_they_are_the_whole_shot():
    """What lasts so long in 24 to 30 frames per second is mostly a false positive."""
    default = VideoOptions().min_duration
    tracks = [track(0, 0, 100), track(1, 10, 7), track(2, 30, 9), track(3, 100, 5), track(4, 106, 5)]
    for rate, found in ((24.0, [0, 2, 3]), (25.0, [0, 2, 3]), (30.0, [0, 2, 3])):
        assert kept(tracks, min_seconds=default, rate=rate, cuts=(100, 105), frame_count=200) == found
    assert kept(tracks[3:4], min_seconds=0.5, rate=25.0, cuts=(100, 105), frame_count=200) == []
    assert kept([track(0, 0, 3)], min_seconds=default, rate=25.0, frame_count=3) == [0]


def test_flashes_are_dropped_but_not_the_short_parts_of_one_who_stays():
    tracks = [track(0, 0, 20), track(1, 0, 4), track(2, 22, 4, person=0)]
    assert kept(tracks, min_seconds=0.5, rate=RATE) == [0, 2]
    assert reasons(tracks, min_seconds=0.5, rate=RATE)[1] == "visible for less than the minimum: 0.16 s of 0.5 s"


def test_the_largest_of_each_shot_by_area_over_time():
    tracks = [track(0, 0, 100, side=100), track(1, 40, 10, side=200), track(2, 100, 30, side=50), track(3, 100, 30, side=40)]
    assert kept(tracks, "largest", cuts=(100,)) == [0, 2]
    assert kept(tracks, "largest") == [0]
    assert reasons(tracks, "largest", cuts=(100,))[1] == "not the largest face"


def test_the_largest_stays_so_when_hidden_for_a_while():
    tracks = [track(0, 0, 40, side=100), track(1, 0, 100, side=80), track(2, 50, 50, side=100, person=0)]
    assert kept(tracks, "largest") == [0, 2]


def test_the_most_central_over_the_shot():
    tracks = [track(0, 0, 100, (560, 300)), track(1, 0, 100, (200, 300)), track(2, 30, 5, (500, 300))]
    assert kept(tracks, "center") == [0]
    assert reasons(tracks, "center")[2] == "not the most central face"


def test_flashes_are_not_the_largest():
    tracks = [track(0, 0, 100, side=50), track(1, 0, 5, side=500)]
    assert kept(tracks, "largest") == [1]
    assert kept(tracks, "largest", min_seconds=0.5, rate=RATE) == [0]


def test_no_tracks_at_all():
    for which in ("all", "largest", "center", (0,)):
        assert reasons((), which) == {}


def test_written_tracks_are_read_back(tmp_path):
    tracks = [track(0, 5, 7, soft=(False, True)), track(1, 9, 1, person=0)]
    tracks[0].scores[3] = tracks[0].raw[3] = np.nan
    save_tracks(tmp_path / "tracks.npz", tracks)
    again = load_tracks(tmp_path / "tracks.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["tracks.npz"]
    assert len(again) == 2
    for one, other in zip(tracks, again):
        assert all(np.array_equal(a, other.arrays()[key], equal_nan=True) for key, a in one.arrays().items())
        assert (other.fade_in, other.fade_out) == (one.fade_in, one.fade_out)
    save_tracks(tmp_path / "none.npz", ())
    assert load_tracks(tmp_path / "none.npz") == ()


def test_a_file_that_holds_no_tracks_is_said_so(tmp_path):
    good = tmp_path / "good.npz"
    save_tracks(good, [track(0, 5, 7), track(1, 5, 7)])
    data, rng = good.read_bytes(), np.random.default_rng(1)
    bad = tmp_path / "bad.npz"
    broken = [b"", b"no tracks", data[:-30], data[: len(data) // 2], data[:200] + bytes(50) + data[250:]]
    broken += [bytes(rng.integers(0, 256, 300, np.uint8))]
    for content in broken:
        bad.write_bytes(content)
        with pytest.raises(InputError, match=r"is damaged: .* Delete it and run again"):
            load_tracks(bad)
    np.savez(bad, **{"0.about": np.zeros(5, int), "0.landmarks": np.zeros((2, 5, 2))})
    with pytest.raises(InputError, match="is damaged"):
        load_tracks(bad)
    with pytest.raises(InputError, match="is damaged"):
        load_tracks(tmp_path / "missing.npz")
    with pytest.raises(OutputError):
        save_tracks(tmp_path, ())
