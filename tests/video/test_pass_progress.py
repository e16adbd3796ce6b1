"""The time left of both passes over a video. The clocks are made: nothing is timed."""

import numpy as np
import pytest
import video_files
from helpers import make_face
from video_fakes import SIZE, frames, restorer
from video_files import write_lossless_video

from gpen_core import Interrupted, RestoreOptions, VideoOptions, restore_video
from gpen_core.images.image import ImageData
from gpen_core.video import pass_progress
from gpen_core.video.face_speed import TIMED_FRAMES
from gpen_core.video.pass_progress import AnalyzeProgress, PassEstimate, RestoreProgress, SegmentsProgress
from gpen_core.video.sequence import SequenceFrame

EXACT = VideoOptions(codec="ffv1", temporal_smoothing=0)
COUNT = 30
FACE, SMALL = make_face((120.0, 96.0), 70.0), make_face((40.0, 40.0), 20.0)


class Clock:
    """Seconds that pass only as the test says."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def after(clock, seconds, call, *args):
    clock.now += seconds
    call(*args)


def test_faces_and_frames_without_any_are_timed_separately(clock):
    estimate = PassEstimate(empty_left=100, faces_left=40, clock=clock)
    estimate.begin()
    for _ in range(10):
        after(clock, 0.1, estimate.step, 0)
    assert estimate.seconds_left is None  # nothing is known about a face yet
    for _ in range(5):
        after(clock, 6.0, estimate.step, 2)
    assert estimate.seconds_left == pytest.approx(90 * 0.1 + 30 * 3.0)
    for _ in range(15):
        after(clock, 6.0, estimate.step, 2)
    assert estimate.seconds_left == pytest.approx(90 * 0.1)


def test_the_time_in_which_the_stages_fill_does_not_count(clock):
    estimate = PassEstimate(0, 100, clock=clock)
    for _ in range(2):
        estimate.pause()
        after(clock, 50.0, estimate.step, 1)
        for _ in range(5):
            after(clock, 1.0, estimate.step, 1)
    assert estimate.seconds_left == pytest.approx(88.0)


def test_a_time_measured_before_gives_way_to_that_of_the_pass(clock):
    estimate = PassEstimate(0, 1000, face_seconds=4.0, clock=clock)
    assert estimate.seconds_left == pytest.approx(4000)
    for _ in range(500):
        after(clock, 2.0, estimate.step, 1)
    assert estimate.seconds_left == pytest.approx(500 * 2.0, rel=0.03)


def first_pass(clock, options, faces_of, count=1000, done=10, **given):
    """The times left after each frame of a first pass that takes 0.1 s per frame, and the boxes that were measured."""
    events, measured = [], []

    def measure(frame, face):
        measured.append((frame.number, face.box))
        clock.now += 30  # does not count as time of the first pass
        return 2.0

    progress = AnalyzeProgress(events.append, options, count, measure=measure, clock=clock, **given)
    image = ImageData(np.zeros((192, 240, 3), np.uint8))
    detections = ((SequenceFrame(n, image), faces_of(n)) for n in range(done))
    for n, _ in enumerate(progress.watch(detections), 1):
        after(clock, 0.1, progress.done, n)
    assert [event.done for event in events] == list(range(1, done + 1))
    return [event.total_seconds_left for event in events], measured


def test_the_first_pass_measures_one_face_and_counts_both_passes(clock):
    left, measured = first_pass(clock, RestoreOptions(), lambda n: [SMALL, FACE] if n else [])
    assert measured == [(5, FACE.box)] and left[:5] == [None] * 5
    assert left[9] == pytest.approx(990 * 0.1 + 1000 * 1.8 * 2.0)  # 18 faces in 10 frames


@pytest.mark.parametrize(
    "options", [RestoreOptions(faces="largest"), RestoreOptions(min_face_size=40), RestoreOptions(max_faces=1)]
)
def test_only_faces_that_will_be_restored_count(clock, options):
    left, measured = first_pass(clock, options, lambda n: [SMALL, FACE])
    assert measured == [(5, FACE.box)] and left[9] == pytest.approx(990 * 0.1 + 1000 * 2.0)


def test_nothing_is_said_of_what_is_not_known(clock, tmp_path):
    def one(n):
        return [FACE]

    few = first_pass(clock, RestoreOptions(), lambda n: [FACE] if 2 <= n < 6 else [])[0]
    assert few[7] is not None and few[8] is None  # faces in less than half of the frames
    for faces in ("0,2", f"like:{tmp_path}", f"not:{tmp_path}"):
        assert first_pass(clock, RestoreOptions(faces=faces), one) == ([None] * 10, [])
    assert first_pass(clock, RestoreOptions(), lambda n: []) == ([None] * 10, [])
    for count in (None, pass_progress.MIN_MEASURED_FRAMES - 1):
        assert first_pass(clock, RestoreOptions(), one, count) == ([None] * 10, [])


def test_a_list_of_faces_has_one_pass(clock):
    left, _ = first_pass(clock, RestoreOptions(), lambda n: [], count=20, is_only_pass=True)
    assert left[9] == pytest.approx(1.0)


def test_finished_segments_take_no_time(clock):
    events, faces = [], np.array([1] * 20 + [0] * 20 + [2] * 20)
    progress = RestoreProgress(events.append, faces, [range(10, 30), range(50, 60)], clock=clock)
    progress.begin(10)
    for n in range(10, 30):
        after(clock, 2.0 if n < 20 else 0.5, progress.done, n)
    assert [event.done for event in events] == list(range(10, 31)) and {event.total for event in events} == {60}
    left = [event.total_seconds_left for event in events]
    assert left[:6] == [None] * 6 and left[10] == pytest.approx(20 * 2.0)  # empty frames are not known yet
    assert left[16] == pytest.approx(4 * 0.5 + 20 * 2.0) and left[20] == pytest.approx(20 * 2.0)
    clock.now += 100
    progress.begin(50)
    assert events[-1].total_seconds_left == pytest.approx(20 * 2.0)
    for n in range(50, 60):
        after(clock, 4.0, progress.done, n)
    assert events[-1].total_seconds_left == 0


def test_segments_of_other_processes(clock):
    events = []
    progress = SegmentsProgress(events.append, 500, clock=clock)
    progress.done(range(100), is_new=False)
    after(clock, 50.0, progress.done, range(300, 400), True)
    after(clock, 30.0, progress.done, range(100, 200), True)
    assert [(event.done, event.total_seconds_left) for event in events] == [
        (0, None),
        (100, None),
        (200, 150.0),
        (300, 80.0),
    ]


@pytest.fixture
def film(tmp_path):
    return write_lossless_video(tmp_path / "film.mkv", COUNT)


def run(film, events, **video):
    runner, network = restorer()
    restore_video(film, film.with_name("out.mkv"), runner, None, VideoOptions(codec="ffv1", **video), progress=events.append)
    return network


def known(events, stage):
    return [event.total_seconds_left is not None for event in events if event.stage == stage]


def test_a_video_says_the_time_left_in_both_passes(film, monkeypatch):
    events = []
    assert run(film, events).faces == COUNT and not any(known(events, "analyze"))  # too short for a measurement
    assert known(events, "restore")[-1] and events[-1].time_left is None
    monkeypatch.setattr(pass_progress, "MIN_MEASURED_FRAMES", COUNT)
    events.clear()
    assert run(film, events).faces == COUNT + 1 + TIMED_FRAMES
    assert known(events, "analyze")[-1] and all(known(events, "restore"))
    events.clear()
    assert run(film, events, ranges=((0.0, 0.5),)).faces < COUNT and not any(known(events, "analyze"))


def test_what_an_earlier_run_found_is_no_pass(film, tmp_path):
    def stop(event):
        if event.stage == "restore" and event.done == 25:
            raise Interrupted("enough")

    events, out = [], tmp_path / "out.mkv"
    video_files.write_video(film, 3 * COUNT, SIZE, "ffv1", pictures=list(frames(3 * COUNT)), rate=2)
    with pytest.raises(Interrupted):
        restore_video(film, out, restorer()[0], None, EXACT, progress=stop)
    restore_video(film, out, restorer()[0], None, EXACT, progress=events.append)
    restored = [event for event in events if event.stage == "restore"]
    assert {event.text for event in restored} == {"Restoring frames"} and restored[0].done == 20


def test_the_first_pass_counts_the_frames_between_start_and_end(film):
    events = []
    run(film, events, start=0.2, end=0.6)
    last = [event for event in events if event.stage == "analyze"][-1]
    assert last.done == last.total < COUNT
