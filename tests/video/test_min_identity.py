"""The option `min_identity` in videos: one strength for each person in each shot."""

import json
import re
from dataclasses import replace

import numpy as np
import people
import pytest
import video_files
from compositor_backends import needs_exact_opencv, use_torch_compositor
from helpers import make_face
from people import ANNA, BOB
from video_fakes import FakeRunner, frame_folder

from gpen_core import RestoreOptions, VideoOptions, restore_sequence, restore_video
from gpen_core.faces.identity import SFace
from gpen_core.pipeline.identity_models import IdentityModels
from gpen_core.pipeline.model_set import ModelSet
from gpen_core.pipeline.restorer import FaceRestorer
from gpen_core.video import video_report
from gpen_core.video.preview_clip import preview_clip
from gpen_core.video.restore_video import SegmentRestorer

SIZE = (240, 200)
FACES = [make_face((120, 100), 80)]
SHOT = 10  # frames
VIDEO = VideoOptions(temporal_smoothing=0, min_duration=0)
STRONG, WEAK = 0.6, 0.02  # added to red; the more, the less a face is like its input


def redden(crop):
    """Much where the background is bright, else hardly."""
    amount = STRONG if crop[2, 2].mean() > 0.5 else WEAK
    return crop + np.array([amount, 0, 0], np.float32)


class NotFinite(FakeRunner):
    def restore(self, crops, strip_bytes, pulse):
        return [None] * len(crops)


def restorer(kind=FakeRunner):
    detector = people.FacesBySize({SIZE: FACES})
    identity = IdentityModels(detector, lambda progress: SFace(people.ONNX))
    network = kind(redden)
    return FaceRestorer(ModelSet([network], detector, people.CPU, identity=identity)), network


def shot(person, *backgrounds, seed=0):
    """[height, width, 3] uint8 frames of a person, each before the next of these shades of gray."""
    rng = np.random.default_rng(seed)
    photo = people.photo(FACES, [person], SIZE)
    outside = (photo == 0.5).all(2)
    for n in range(SHOT):
        photo[outside] = backgrounds[n % len(backgrounds)]
        yield np.clip(np.rint(255 * photo + rng.normal(0, 2, photo.shape)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def two_shots():
    """Anna, whose face is hardly changed, then Bob, whose face is changed much."""
    return [*shot(ANNA, 0.2), *shot(BOB, 0.8, seed=1)]


@pytest.fixture(scope="module")
def film(tmp_path_factory, two_shots):
    return frame_folder(tmp_path_factory.mktemp("video") / "film", two_shots)


KEEPING = RestoreOptions(min_identity=0.9)


@pytest.fixture(scope="module")
def whole(film):
    """What one run makes of the film."""
    return restore_video(film, film.with_name("whole"), restorer()[0], KEEPING, VIDEO)


def run(frames, minimum, kind=FakeRunner, **more):
    options = RestoreOptions(min_identity=minimum)
    return list(restore_sequence(restorer(kind)[0], lambda: frames, options, VIDEO, 25.0, **more))


def changes(results, frames):
    """How much each frame is changed."""
    return np.array(
        [np.abs(one.image.crop_rgb(one.image.full_region) - given / 255).sum() for one, given in zip(results, frames)]
    )


def images(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_face_that_is_changed_in_some_frames_only_has_one_strength_in_all():
    """Decided frame by frame, the strength would go up and down."""
    frames = list(
        shot(ANNA, 0.55, 0.55, 0.55, 0.45)
    )  # eight of ten are changed much, so at least three of the five that decide
    notes = []
    free, held = run(frames, 0), run(frames, 0.9, on_note=notes.append)
    shares = changes(held, frames) / changes(free, frames)
    assert shares.min() > 0.2 and shares.max() < 0.8 and np.ptp(shares) < 0.02
    assert re.fullmatch(
        r"strength lowered: face 0 to 0\.(75|5|25) for an identity of 0\.9\d \(before 0\.[0-8]\d\)", notes[0]
    )
    frames = list(shot(ANNA, 0.45, 0.45, 0.45, 0.55))  # eight are hardly changed
    assert np.array_equal(changes(run(frames, 0.9), frames), changes(run(frames, 0), frames))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (
            FakeRunner,
            r"its identity would not be kept: 0\.\d\d at a quarter of the strength, 0\.\d\d at the whole, minimum 1",
        ),
        (NotFinite, "its identity cannot be measured"),
    ],
)
def test_a_face_without_a_strength_is_skipped_in_all_frames(kind, reason):
    frames = list(shot(ANNA, 0.8))
    results = run(frames, 1, kind)
    assert all(np.array_equal(one.image.pixels, given) for one, given in zip(results, frames))
    assert all(re.fullmatch(reason, one.faces[0].reason) and not one.faces[0].restored for one in results)


def test_each_person_has_a_strength_of_their_own(two_shots):
    free, held = run(two_shots, 0), run(two_shots, 0.9)
    shares = changes(held, two_shots) / changes(free, two_shots)
    assert np.allclose(shares[:SHOT], 1) and shares[SHOT:].max() < 0.8


@needs_exact_opencv
def test_it_is_the_same_on_the_device(two_shots, monkeypatch):
    on_cpu = run(two_shots, 0.9)
    use_torch_compositor(monkeypatch)
    on_device = run(two_shots, 0.9)
    for one, other in zip(on_cpu, on_device):
        off = one.image.crop_rgb(one.image.full_region) - other.image.crop_rgb(other.image.full_region)
        assert np.abs(off).max() <= 1.01 / 255


def test_the_report_has_the_strength_and_the_identity_of_each_track(tmp_path, film, whole):
    def tracks(result):
        return json.loads(video_report.report(None, {}, KEEPING, VIDEO, result))["tracks"]

    anna, bob = tracks(whole)
    assert anna["strength"] == 1 and anna["identity"] > 0.98 and anna["restored"] == SHOT
    assert bob["strength"] in (0.75, 0.5, 0.25) and 0.9 <= bob["identity"] < 1 and bob["restored"] == SHOT
    (note,) = (note for note in whole.notes if note.startswith("strength lowered: face 1 to "))
    assert f"for an identity of {bob['identity']:.2f} (before " in note
    result = restore_video(film, tmp_path / "other", restorer()[0], RestoreOptions(min_identity=0.999), VIDEO)
    _, bob = tracks(result)
    assert bob["strength"] is None and bob["identity"] < 0.999 and bob["reason"].startswith("its identity would not be kept")
    free = [replace(one, trial=None) for one in whole.tracks]
    assert all("strength" not in one for one in tracks(replace(whole, tracks=tuple(free))))


def test_a_run_that_resumes_keeps_its_strengths(tmp_path, film, whole):
    target = tmp_path / "out"
    broken, network = restorer()
    network.fails_after = 2 * 5 + SHOT  # five frames of each track decide
    with pytest.raises(RuntimeError):
        restore_video(film, target, broken, KEEPING, VIDEO)
    again, network = restorer()
    resumed = restore_video(film, target, again, KEEPING, VIDEO)
    assert network.faces == 2 * SHOT
    assert [one.trial for one in resumed.tracks] == [one.trial for one in whole.tracks]
    assert resumed.notes == whole.notes
    assert images(target) == images(whole.target)


def test_another_limit_decides_and_restores_anew(tmp_path, film, whole):
    target = tmp_path / "out"
    broken, network = restorer()
    network.fails_after = 2 * 5 + SHOT
    with pytest.raises(RuntimeError):
        restore_video(film, target, broken, RestoreOptions(min_identity=0.97), VIDEO)
    again, network = restorer()
    restore_video(film, target, again, KEEPING, VIDEO)
    assert network.faces == 2 * 5 + 2 * SHOT and images(target) == images(whole.target)


def test_other_processes_restore_with_the_strengths_of_the_run(tmp_path, film, whole):
    networks = []

    def executor(analysis_key, count, on_finished):
        own, network = restorer()
        networks.append(network)
        worker = SegmentRestorer(film, tmp_path / "out", own, KEEPING, VIDEO, analysis_key)
        for number in range(count):
            on_finished(worker.restore(number))

    runner, network = restorer()
    result = restore_video(film, tmp_path / "out", runner, KEEPING, VIDEO, executor=executor)
    assert [one.faces for one in (network, *networks)] == [2 * 5, 2 * SHOT]
    assert result.notes == whole.notes
    assert images(result.target) == images(whole.target)


def test_a_preview_shows_it(tmp_path, film):
    out, video = tmp_path / "preview.mkv", VideoOptions(min_duration=0, temporal_smoothing=0, start=0, codec="ffv1")
    preview_clip(film, out, 10, restorer()[0], RestoreOptions(min_identity=0.999), video)
    halves = [(one[60:140, 80:160].astype(int), one[60:140, SIZE[0] + 80 : -80]) for one in video_files.read_frames(out)]
    changed = [bool(np.abs(before - after).mean() > 1) for before, after in halves]
    assert changed[SHOT // 2] and not changed[SHOT + SHOT // 2]
