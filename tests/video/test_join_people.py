"""Tracks of a video are joined to people, also across cuts."""

from dataclasses import replace

import numpy as np
import people
import pytest
import video_fakes
from helpers import make_face
from people import ANNA, BOB, CARA, SHOT

from gpen_core import MissingWeights, RestoreOptions, VideoOptions, people_of_video, restore_sequence, restore_video
from gpen_core.faces.identity import SFace
from gpen_core.pipeline.identity_models import IdentityModels
from gpen_core.pipeline.model_set import ModelSet
from gpen_core.pipeline.photo_people import not_joined_text
from gpen_core.pipeline.restorer import FaceRestorer
from gpen_core.video.join_people import join_tracks
from gpen_core.video.people import find_people
from gpen_core.video.preview_clip import preview_clip
from gpen_core.video.track import Track
from gpen_core.video.track_people import TrackEmbeddings

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT = make_face((100, 100), 80), make_face((260, 100), 80)
ANY_LENGTH = VideoOptions(min_duration=0, temporal_smoothing=0)
WIDE = (WIDTH, HEIGHT)


def track(number, first, last, person=None):
    count = last - first + 1
    points = np.zeros((count, 5, 2))
    boxes = np.tile([0.0, 0.0, 40.0, 40.0], (count, 1))
    return Track(number, first, points, boxes, np.ones(count), points, False, False, number if person is None else person)


def embedded(*degrees, weights=None):
    radians = np.deg2rad(degrees)
    vectors = np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32)
    return TrackEmbeddings(vectors, np.array(weights or [1.0] * len(degrees)))


@pytest.mark.parametrize(
    ("spans", "degrees", "people"),
    [
        ([(0, 9), (10, 19), (20, 29), (30, 39)], [0, 90, 4, 94], (0, 1, 0, 1)),
        ([(0, 9), (0, 9), (10, 19), (10, 19)], [0, 90, 94, 4], (0, 1, 1, 0)),  # they change places at the cut
        ([(0, 9), (5, 14), (15, 19)], [0, 2, 1.5], (0, 1, 1)),  # twins
    ],
)
def test_a_person_has_one_number(spans, degrees, people):
    tracks = [track(n, *span) for n, span in enumerate(spans)]
    assert join_tracks(tracks, {n: embedded(d) for n, d in enumerate(degrees)}, 0.5) == people


def test_tracks_of_one_person_stay_together():
    tracks = [track(0, 0, 9), track(1, 12, 20, person=0), track(2, 30, 39), track(3, 12, 29)]
    found = {0: embedded(0), 1: embedded(90), 2: embedded(90), 3: embedded(45)}
    assert join_tracks(tracks, found, 0.5) == (0, 0, 0, 3)


def test_untrusted_faces_stay_alone():
    tracks = [track(n, 10 * n, 10 * n + 9) for n in range(4)]
    found = {0: embedded(0), 1: embedded(0, weights=[0]), 3: embedded(90, 0, weights=[0, 2])}
    assert join_tracks(tracks, found, 0.5) == (0, 1, 2, 0)


def shot(seed, *shown):
    """Frames of one or two people, the first at the left."""
    return people.shot([LEFT, RIGHT], shown, WIDE, seed)


@pytest.fixture(scope="module")
def abab():
    return [frame for n, person in enumerate((ANNA, BOB, ANNA, BOB)) for frame in shot(n, person)]


@pytest.fixture(scope="module")
def film(tmp_path_factory, abab):
    return video_fakes.frame_folder(tmp_path_factory.mktemp("video") / "film", abab)


def restorer(is_present=True, load=lambda progress: SFace(people.ONNX), faces=(LEFT,)):
    detector = people.FacesBySize({WIDE: faces})
    identity = IdentityModels(detector, load, lambda: is_present)
    runner = video_fakes.FakeRunner(video_fakes.invert)
    return FaceRestorer(ModelSet([runner], detector, people.CPU, identity=identity))


def missing(progress):
    raise MissingWeights("no SFace here")


def load_if(is_present):
    return (lambda progress: SFace(people.ONNX)) if is_present else missing


def by_shot(restored):
    return [bool(restored[n * SHOT]) for n in range(4)]


def test_a_number_restores_all_shots_of_a_person(film, tmp_path):
    result = restore_video(film, tmp_path / "out", restorer(), RestoreOptions(faces="0"), ANY_LENGTH)
    assert by_shot(result.restored) == [True, False, True, False]
    first, second = people_of_video(result)
    assert first.ranges == [(0, SHOT - 1), (2 * SHOT, 3 * SHOT - 1)] and first.restored == 2 * SHOT
    assert second.number == 1 and second.reason == "not asked for"
    assert "4 faces were joined to 2 people by SFace" in result.notes
    again = restore_video(film, tmp_path / "again", restorer(), RestoreOptions(faces="3"), ANY_LENGTH)
    assert by_shot(again.restored) == [False, True, False, True]


def test_without_sface_each_shot_has_its_numbers_and_a_note_says_so(film, tmp_path):
    result = restore_video(film, tmp_path / "out", restorer(False, missing), RestoreOptions(faces="0"), ANY_LENGTH)
    assert by_shot(result.restored) == [True, False, False, False] and not_joined_text("shot") in result.notes
    off = replace(ANY_LENGTH, join_people="off")
    result = restore_video(film, tmp_path / "off", restorer(), RestoreOptions(faces="0"), off)
    assert by_shot(result.restored) == [True, False, False, False] and result.notes == ()


def test_on_needs_sface(film, tmp_path):
    on = replace(ANY_LENGTH, join_people="on")
    result = restore_video(film, tmp_path / "out", restorer(False), RestoreOptions(faces="0"), on)
    assert by_shot(result.restored) == [True, False, True, False]
    with pytest.raises(MissingWeights, match="no SFace here"):
        restore_video(film, tmp_path / "missing", restorer(False, missing), None, on)


def test_one_shot_needs_no_sface_and_no_note(tmp_path):
    film = video_fakes.frame_folder(tmp_path / "film", list(shot(0, ANNA, BOB)))
    result = restore_video(film, tmp_path / "out", restorer(False, missing, (LEFT, RIGHT)), None, ANY_LENGTH)
    assert result.notes == () and len(people_of_video(result)) == 2


def test_images_in_memory_are_joined(abab):
    notes = []
    options = RestoreOptions(faces="1")
    results = list(restore_sequence(restorer(), lambda: abab, options, ANY_LENGTH, 25.0, on_note=notes.append))
    assert by_shot([one.mask is not None for one in results]) == [False, True, False, True]
    assert [results[n * SHOT].people for n in range(4)] == [(0,), (1,), (0,), (1,)]
    assert notes == ["4 faces were joined to 2 people by SFace"]


def test_a_preview_says_what_a_whole_run_says(film, tmp_path):
    notes, video = [], replace(ANY_LENGTH, codec="ffv1")
    options = RestoreOptions(min_identity=0.99)  # the network inverts faces, so that none keeps its identity
    whole = restore_video(film, tmp_path / "whole.mkv", restorer(), options, video)
    preview_clip(film, tmp_path / "piece.mkv", 60.0, restorer(), options, video, on_note=notes.append)
    assert notes == list(whole.notes) and "4 faces were joined to 2 people by SFace" in notes
    preview_clip(film, tmp_path / "off.mkv", 60.0, restorer(False, missing), None, video, on_note=notes.append)
    assert notes[-1] == not_joined_text("shot")


def test_people_are_listed_once(film):
    models = restorer().models
    found = find_people(film, models.detector, None, ANY_LENGTH, identity=models.identity)
    assert [(one.number, len(one.times), one.frame_count) for one in found.people] == [(0, 2, 2 * SHOT), (1, 2, 2 * SHOT)]
    assert found.notes == ("4 faces were joined to 2 people by SFace",)
    assert len(find_people(film, models.detector, None, ANY_LENGTH).people) == 4


@pytest.mark.parametrize("was_joined", [True, False])
def test_a_folder_of_tracks_keeps_its_numbers(film, tmp_path, was_joined):
    """The sheet shows these numbers, so that a run elsewhere restores those people."""
    models = restorer(was_joined, load_if(was_joined)).models
    found = find_people(film, models.detector, None, ANY_LENGTH, identity=models.identity, tracks_folder=tmp_path / "kept")
    assert len(found.people) == (2 if was_joined else 4)
    other = restorer(not was_joined, load_if(not was_joined))
    options = RestoreOptions(faces="0")
    result = restore_video(film, tmp_path / "out", other, options, ANY_LENGTH, tracks_folder=tmp_path / "kept")
    assert by_shot(result.restored) == [True, False, was_joined, False]


def test_a_resumed_run_keeps_its_people(film, tmp_path, monkeypatch):
    """A download in between does not change them; an option does."""
    monkeypatch.setattr("gpen_core.video.restore_video.WorkDir.clear", lambda work_dir: None)  # what a stopped run leaves
    options, target = RestoreOptions(faces="0"), tmp_path / "out"
    target.mkdir()
    seen = {}
    for name, is_present, choice in (("a", False, "auto"), ("b", True, "auto"), ("c", True, "on"), ("d", False, "auto")):
        for path in target.glob("*"):
            path.unlink()
        models = restorer(is_present, load_if(is_present))
        result = restore_video(film, target, models, options, replace(ANY_LENGTH, join_people=choice))
        seen[name] = by_shot(result.restored), result.segments[1] > 0
    one, both = [True, False, False, False], [True, False, True, False]
    assert seen == {"a": (one, False), "b": (one, True), "c": (both, False), "d": (both, True)}


def test_two_people_who_change_places_keep_their_numbers(tmp_path):
    frames = [*shot(0, ANNA, BOB), *shot(1, BOB, ANNA), *shot(2, CARA, BOB)]
    film = video_fakes.frame_folder(tmp_path / "film", frames)
    models = restorer(faces=(LEFT, RIGHT)).models
    found = find_people(film, models.detector, None, ANY_LENGTH, identity=models.identity)
    places = {one.number: [t.first // SHOT * 10 + (t.boxes[0, 0] > 150) for t in one.tracks] for one in found.people}
    assert places == {0: [0, 11], 1: [1, 10, 21], 4: [20]}
