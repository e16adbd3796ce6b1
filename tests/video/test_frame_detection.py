"""Which frames are searched everywhere, which only around the faces of others, and that no face is lost by that."""

import numpy as np
import pytest
import synthetic_video
import torch
from helpers import FakeDetector, make_face

from gpen_core import RestoreOptions
from gpen_core.faces.detection.retinaface import Detector
from gpen_core.images.image import to_image_data
from gpen_core.progress import ReplayableProgress, StageTimer, no_progress
from gpen_core.tools.demo.images import astronaut
from gpen_core.video import frame_detection
from gpen_core.video.first_pass import analyze_frames
from gpen_core.video.frame_detection import boxes_between, detect_frames, key_interval
from gpen_core.video.sequence import SequenceFrame

RATE = 25  # one of four frames is a key frame
OPTIONS = RestoreOptions()


class SmallFaces(FakeDetector):
    """Finds a face of 20 px in the frames that have it; if boxes are given, only within half a face of one."""

    batch_size = 1

    def __init__(self, places):
        super().__init__(())
        self.places, self.searched = places, {}

    def detect(self, images, options, boxes=None, on_tick=lambda: None, make_source=None, near=None):
        on_tick()
        return [self.find(int(image.pixels[0, 0, 0]), near) for image in images]

    def find(self, number, near):
        assert number not in self.searched
        self.searched[number] = near is None
        faces = [make_face(place, 20.0) for place in self.places.get(number, ())]
        return [face for face in faces if near is None or any(touches(face.box, box) for box in near)]


def touches(box, other):
    low, high = np.maximum(box[:2], np.subtract(other[:2], 10)), np.minimum(box[2:], np.add(other[2:], 10))
    return bool((low < high).all())


def run(detector, count, rate=RATE, is_needed=lambda frame: True):
    frames = (SequenceFrame(n, to_image_data(np.full((120, 160, 3), n, np.uint8))) for n in range(count))
    found = list(detect_frames(frames, detector, OPTIONS, rate, lambda: None, StageTimer({}), is_needed))
    assert [frame.number for frame, _ in found] == list(range(count))
    return [[face.center for face in faces] for _, faces in found]


def centers(places):
    return [make_face(place, 20.0).center for place in places]


def keys(detector):
    return [number for number, is_key in sorted(detector.searched.items()) if is_key]


def test_one_of_four_frames_is_searched_everywhere():
    places = {n: [(100, 30), (50, 60)] for n in range(11)}
    detector = SmallFaces(places)
    assert run(detector, 11) == [centers(places[n]) for n in range(11)]
    assert keys(detector) == [0, 4, 8, 10]


@pytest.mark.parametrize("first", range(1, 9))
def test_a_face_that_appears_between_key_frames_is_found_from_its_first_frame(first):
    places = {n: [(50 + 2 * n, 60)] for n in range(first, 12)}
    assert run(SmallFaces(places), 12) == [centers(places.get(n, ())) for n in range(12)]


@pytest.mark.parametrize("last", range(1, 9))
def test_a_face_that_disappears_between_key_frames_is_found_until_its_last_frame(last):
    places = {n: [(50 + 2 * n, 60)] for n in range(last + 1)}
    assert run(SmallFaces(places), 12) == [centers(places.get(n, ())) for n in range(12)]


def test_a_face_that_crosses_three_of_its_sizes_between_key_frames_is_found_on_its_way():
    places = {n: [(20 + 14 * n, 60)] for n in range(9)}
    assert run(SmallFaces(places), 9) == [centers(places[n]) for n in range(9)]


def test_faces_before_and_after_a_cut_are_found():
    places = {n: [(30, 30)] if n < 6 else [(120, 90)] for n in range(12)}
    assert run(SmallFaces(places), 12) == [centers(places[n]) for n in range(12)]


def test_a_face_that_one_key_frame_misses_is_found_around_it():
    places = {n: [(50, 60)] for n in range(3, 16) if n != 8}
    assert run(SmallFaces(places), 16) == [centers(places.get(n, ())) for n in range(16)]


def test_a_face_of_a_moment_between_key_frames_is_missed():
    assert run(SmallFaces({6: [(50, 60)]}), 12) == [[]] * 12


def test_frames_that_need_no_detection_end_a_group():
    places = {n: [(50, 60)] for n in range(20)}
    detector = SmallFaces(places)
    found = run(detector, 20, is_needed=lambda frame: not 6 <= frame.number < 12)
    assert found == [centers(places[n]) if not 6 <= n < 12 else [] for n in range(20)]
    assert keys(detector) == [0, 4, 5, 12, 16, 19]


def test_the_interval_is_a_duration_of_a_few_frames_on_the_cpu():
    detector = FakeDetector(())
    assert [key_interval(detector, rate) for rate in (5, 12, 25, 30, 60, 240)] == [1, 2, 4, 5, 6, 6]
    detector.device = torch.device("meta")
    assert key_interval(detector, 30) == 1


def test_boxes_between_are_all_boxes_and_the_ways_between_them():
    assert boxes_between([], []) == []
    assert boxes_between([(0, 0, 20, 20)], []) == boxes_between([], [(0, 0, 20, 20)]) == [(0, 0, 20, 20)]
    assert boxes_between([(0, 0, 20, 20)], [(40, 0, 60, 20)])[2:] == [(0, 0, 60, 20)]
    assert boxes_between([(0, 0, 20, 20)], [(90, 0, 110, 20)])[2:] == []  # too far
    assert boxes_between([(0, 0, 20, 20)], [(40, 0, 100, 60)])[2:] == []  # too large


@pytest.mark.slow
@pytest.mark.parametrize("path", ["pan", "zoom", "shake"])
def test_tracks_are_those_of_a_search_of_every_frame(detector_weights, monkeypatch, path):
    """Measured: within 0.3 % of the face's width."""
    detector = Detector.from_state_dict(detector_weights, torch.device("cpu"))
    film = [
        SequenceFrame(n, to_image_data(frame))
        for n, (frame, _) in enumerate(
            synthetic_video.render_video(astronaut(), path, 14, (640, 360), 4.0, 3, middle=(224, 118), width=700, speed=3)
        )
    ]
    (track,) = analyze_frames(iter(film), detector, OPTIONS, RATE, ReplayableProgress(no_progress)).tracks
    monkeypatch.setattr(frame_detection, "MAX_KEY_INTERVAL", 1)
    (expected,) = analyze_frames(iter(film), detector, OPTIONS, RATE, ReplayableProgress(no_progress)).tracks
    width = (expected.boxes[:, 2] - expected.boxes[:, 0]).mean()
    assert (track.first, track.last) == (expected.first, expected.last) == (0, 13) and 40 < width < 120
    assert not np.isnan(track.scores).any()
    assert np.hypot(*np.moveaxis(track.landmarks - expected.landmarks, -1, 0)).max() < 0.01 * width
