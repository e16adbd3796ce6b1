"""People of a video, chosen by a photo."""

from types import SimpleNamespace

import numpy as np
import people
import pytest
import video_files
from helpers import make_face
from people import ANNA, BOB, SHOT
from PIL import Image
from video_fakes import FakeRunner, frame_folder, invert

from gpen_core import FaceReference, RestoreOptions, VideoOptions, restore_sequence, restore_video
from gpen_core.faces.identity import SFace
from gpen_core.images.image import from_array
from gpen_core.pipeline.identity_models import IdentityModels
from gpen_core.pipeline.model_set import ModelSet
from gpen_core.pipeline.restorer import FaceRestorer
from gpen_core.video import restore_video as restoring
from gpen_core.video.preview_clip import preview_clip
from gpen_core.video.track import Track
from gpen_core.video.track_people import best_frames, embed_tracks

SIZE = (240, 200)
FACES = [make_face((120, 100), 80)]


@pytest.fixture(scope="module")
def abab():
    """Anna, Bob, Anna, Bob: each shot has tracks of its own."""
    return [frame for n, person in enumerate((ANNA, BOB, ANNA, BOB)) for frame in people.shot(FACES, [person], SIZE, n)]


def restorer():
    detector = people.FacesBySize({SIZE: FACES, people.PORTRAIT: people.ALONE})
    identity = IdentityModels(detector, lambda progress: SFace(people.ONNX))
    return FaceRestorer(ModelSet([FakeRunner(invert)], detector, people.CPU, identity=identity))


def anna(is_excluded=False):
    return FaceReference((people.portrait_of(ANNA),), is_excluded, "anna")


def is_restored(results):
    return [any(face.restored for face in one.faces) for one in results]


@pytest.mark.parametrize(
    ("faces", "shots"),
    [
        ([anna()], (True, False, True, False)),
        ([anna(is_excluded=True)], (False, True, False, True)),
        ([anna(), 1], (True, True, True, True)),
        (["largest", anna()], (True, False, True, False)),
    ],
)
def test_a_person_is_found_in_every_shot(abab, faces, shots):
    results = list(
        restore_sequence(
            restorer(), lambda: abab, RestoreOptions(faces=faces), VideoOptions(min_duration=0, temporal_smoothing=0), 25.0
        )
    )
    assert is_restored(results) == [one for one in shots for _ in range(SHOT)]
    (face,) = results[SHOT].faces
    assert face.restored or face.reason.startswith(("another person: ", "left out: "))


@pytest.fixture(scope="module")
def film(tmp_path_factory, abab):
    return frame_folder(tmp_path_factory.mktemp("video") / "film", abab)


def save(path, person):
    Image.fromarray(np.rint(people.portrait_of(person) * 255).astype(np.uint8)).save(path)
    return RestoreOptions(faces=f"like:{path}")


def test_a_film_is_matched_again_when_the_photo_changes(tmp_path, film, monkeypatch):
    """The embeddings of the tracks are kept beside the result of the first pass; segments are for one photo only."""
    video = VideoOptions(min_duration=0, temporal_smoothing=0)
    monkeypatch.setattr(restoring.WorkDir, "clear", lambda work_dir: None)  # what a stopped run leaves
    shots = {}
    for person in (ANNA, BOB):
        options = save(tmp_path / "person.png", person)
        result = restore_video(film, tmp_path / f"out-{person}", restorer(), options, video)
        shots[person] = [bool(result.restored[n * SHOT]) for n in range(4)]
        assert result.seconds.get("identity") is not None
    assert shots == {ANNA: [True, False, True, False], BOB: [False, True, False, True]}
    target = tmp_path / f"out-{ANNA}"
    for path in target.iterdir():
        path.unlink()
    again = restore_video(film, target, restorer(), save(tmp_path / "person.png", BOB), video)
    assert [bool(again.restored[n * SHOT]) for n in range(4)] == shots[BOB]
    assert "identity" not in again.seconds and again.segments[1] == 0


def test_a_preview_shows_the_person_only(tmp_path, film):
    out, video = tmp_path / "preview.mkv", VideoOptions(min_duration=0, temporal_smoothing=0, start=0, codec="ffv1")
    preview_clip(film, out, 10, restorer(), save(tmp_path / "anna.png", ANNA), video)
    halves = [(one[60:140, 80:160].astype(int), one[60:140, SIZE[0] + 80 : -80]) for one in video_files.read_frames(out)]
    changed = [bool(np.abs(before - after).mean() > 1) for before, after in halves]
    assert [changed[n * SHOT + SHOT // 2] for n in range(4)] == [True, False, True, False]


def test_a_photo_of_nobody_in_the_film_restores_nothing_and_says_so(tmp_path, film):
    result = restore_video(film, tmp_path / "out", restorer(), save(tmp_path / "cara.png", people.CARA))
    assert not any(result.restored)
    assert any(note.startswith(f"no face is like {tmp_path / 'cara.png'}: the closest is face ") for note in result.notes)


def test_consecutive_images_and_a_preview_say_so_too(tmp_path, abab, film):
    options, notes = save(tmp_path / "cara.png", people.CARA), {"images": [], "preview": []}
    assert not any(is_restored(restore_sequence(restorer(), abab, options, on_note=notes["images"].append)))
    video = VideoOptions(start=0, codec="ffv1")
    preview_clip(film, tmp_path / "preview.mkv", 10, restorer(), options, video, on_note=notes["preview"].append)
    for found in notes.values():
        assert any(note.startswith(f"no face is like {tmp_path / 'cara.png'}: the closest is face ") for note in found)


def test_the_best_frames_are_spread_over_the_track():
    count = 100
    boxes = np.tile([0.0, 0.0, 40.0, 40.0], (count, 1))
    boxes[[7, 45, 99], 2:] = 80
    scores = np.ones(count)
    scores[45] = np.nan  # not detected there
    points = np.zeros((count, 5, 2))
    chosen = best_frames(Track(0, 1000, points, boxes, scores, points, False, False, 0))
    assert len(chosen) == 5 and {1007, 1099} < set(chosen) and 1045 not in chosen
    assert [(n - 1000) // 20 for n in chosen] == [0, 1, 2, 3, 4]


def test_only_the_frames_that_are_needed_are_read():
    """Those far apart are reached by a seek."""
    asked = []

    def frames(first):
        asked.append(first)
        for number in range(first, 4000):
            yield SimpleNamespace(number=number, image=from_array(np.zeros((200, 240, 3), np.uint8)))

    count = 3000
    boxes, points = np.tile(FACES[0].box, (count, 1)), np.tile(FACES[0].landmarks, (count, 1, 1))
    track = Track(0, 100, points, boxes, np.ones(count), points, False, False, 0)
    found = embed_tracks([track], frames, SFace(people.ONNX))
    assert asked == best_frames(track) and len(found[0].vectors) == 5
