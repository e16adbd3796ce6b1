"""What lies over a face is kept, and a face with nothing over it is left to the network."""

import cv2
import helpers
import numpy as np
import pytest

from gpen_core import RestoreInput, RestoreOptions
from gpen_core.faces import occlusion
from gpen_core.faces.align import align_face, crop_face
from gpen_core.faces.occlusion import occlusion_mask, residual_map
from gpen_core.images.image import to_image_data


@pytest.fixture(scope="module")
def face(detector_weights, astronaut):
    """[512, 512, 3] in [0, 1]: the astronaut's face as the network gets it."""
    import torch

    from gpen_core.faces.detection.retinaface import Detector

    picture = to_image_data(astronaut)
    found = Detector.from_state_dict(detector_weights, torch.device("cpu")).detect([picture])[0]
    return crop_face(picture, align_face(found[0].landmarks, 512))


def bar(face, color, rows=slice(290, 360), columns=slice(150, 380)):
    """The face with a bar of that color over nose and cheeks, and where it is."""
    where = np.zeros((512, 512), bool)
    where[rows, columns] = True
    return np.where(where[..., None], np.float32(color), face).astype(np.float32), where


def worse(crop, sigma=4.0, noise=12.0):
    rough = cv2.GaussianBlur(crop, (0, 0), sigma)
    return np.clip(rough + np.random.default_rng(3).normal(0, noise / 255, rough.shape), 0, 1).astype(np.float32)


@pytest.mark.parametrize("color", [(0.05, 0.05, 0.05), (0.95, 0.95, 0.9), (0.1, 0.3, 0.8)])
@pytest.mark.parametrize("size", [256, 512, 1024])
def test_a_thing_over_the_face_is_kept_and_the_rest_is_not(face, color, size):
    occluded, where = bar(face, color)
    crops = [cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA) for crop in (worse(occluded), face)]
    keep = occlusion_mask(*crops)
    assert keep.shape == (512, 512) and keep.dtype == np.float32 and keep.min() == 0 and keep.max() == 1
    assert (keep[where] >= 0.5).mean() > 0.95
    far = cv2.dilate(where.astype(np.uint8), np.ones((81, 81))) == 0
    assert not keep[far].any()


def test_two_things_are_both_kept(face):
    once, first = bar(face, (0.05, 0.05, 0.05), slice(200, 240), slice(140, 370))
    twice, second = bar(once, (0.1, 0.3, 0.8), slice(400, 450), slice(200, 330))
    keep = occlusion_mask(worse(twice), face)
    assert (keep[first] >= 0.5).mean() > 0.9 and (keep[second] >= 0.5).mean() > 0.9


DEGRADED = {
    "blurred": lambda face: worse(face, 8, 0),
    "noisy": lambda face: worse(face, 1, 25),
    "small": lambda face: cv2.resize(cv2.resize(face, (64, 64), interpolation=cv2.INTER_AREA), (512, 512)),
    "faded": lambda face: face * np.float32([0.6, 0.55, 0.45]) + np.float32(0.25),
    "gray": lambda face: face.mean(2, keepdims=True).repeat(3, 2),
    "dark": lambda face: face**1.5 * np.float32(0.7),
    "shifted": lambda face: np.roll(face, 4, axis=1),
}


@pytest.mark.parametrize("name", DEGRADED)
def test_a_face_with_nothing_over_it_is_not_touched(face, name):
    damaged = DEGRADED[name](face)
    assert np.abs(damaged - face).max() > 0.05
    assert not occlusion_mask(damaged, face).any()


@pytest.mark.parametrize("name", ["faded", "dark"])
def test_so_is_a_thing_over_a_face_of_other_tones(face, name):
    """The contrast that counts is that of the input."""
    occluded, where = bar(face, (0.75, 0.75, 0.75), slice(290, 330))
    damaged = DEGRADED[name](occluded)
    if name == "faded":
        damaged = 0.4 * damaged + np.float32(0.3)
    assert (occlusion_mask(damaged, face)[where] >= 0.5).mean() > 0.9


def test_the_same_crop_is_explained(face):
    assert residual_map(face, face).max() < 1e-6
    assert residual_map(worse(bar(face, (0, 0, 0))[0]), face).max() > 1


def test_flat_crops_are_harmless():
    flat = np.full((256, 256, 3), 0.5, np.float32)
    assert not occlusion_mask(flat, flat).any() and not occlusion_mask(flat * 0, flat * 0).any()
    assert np.isfinite(occlusion_mask(helpers.texture(256, 256), flat)).all()


def test_everything_over_the_face_is_kept_where_little_is_left_of_it(face):
    """Another person's face all over: it is not the restored one."""
    other = face[::-1].copy()
    inner = (slice(220, 400), slice(170, 340))
    assert (occlusion_mask(other, face)[inner] >= 0.5).mean() > 0.3


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.slow
def test_what_lies_over_a_face_stays_in_the_image(monkeypatch, aligned):
    half = np.zeros((512, 512), np.float32)
    half[:, :256] = 1
    monkeypatch.setattr(occlusion, "occlusion_mask", lambda crop, restored: half)
    image = helpers.texture(300, 300, sigma=1)
    restorer = helpers.restorer(helpers.red_weights(256), [helpers.make_face((150, 150), 120)])
    frame = RestoreInput(image, is_aligned=aligned)
    plain, kept = (restorer.restore_batch([frame], RestoreOptions(preserve=preserve))[0] for preserve in ((), "occluders"))
    assert plain.mask[150, 120] == plain.mask[150, 180] == kept.mask[150, 180] == 1
    assert kept.mask[150, 120] == 0 and np.array_equal(kept.image[:, :140], image[:, :140])


def test_a_network_without_effect_leaves_nothing_to_be_kept():
    image = helpers.texture(300, 300, sigma=1)
    restorer = helpers.restorer(helpers.identity_weights(256), [helpers.make_face((150, 150), 120)])
    masks = [restorer.restore(image, RestoreOptions(preserve=preserve)).mask for preserve in ((), "occluders")]
    assert np.array_equal(*masks)


def test_colors_that_a_gray_face_never_had_do_not_lie_over_it(monkeypatch):
    seen = []
    monkeypatch.setattr(
        occlusion, "occlusion_mask", lambda crop, restored: seen.append(restored) or np.zeros((512, 512), np.float32)
    )
    gray = np.repeat(helpers.texture(300, 300, sigma=1)[..., :1], 3, axis=2)
    restorer = helpers.restorer(helpers.red_weights(256), [helpers.make_face((150, 150), 120)])
    restorer.restore(gray, RestoreOptions(preserve="occluders"))
    assert np.ptp(seen[0], axis=2).max() < 1e-6
