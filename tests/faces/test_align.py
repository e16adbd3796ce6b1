"""Alignment against the published pipeline's numbers, and faces that cannot be aligned."""

import json

import helpers
import numpy as np
import pytest

from gpen_core.faces.align import align_face, crop_face, ellipse_radius, fit_similarity, invert_affine, landmark_template
from gpen_core.images.image import to_image_data

pytestmark = pytest.mark.usefixtures("compositor_backend")

GOLDEN = json.loads((helpers.DATA / "align.json").read_text())


@pytest.mark.parametrize("size", [256, 512, 1024, 2048])
def test_template_is_the_one_the_weights_were_run_with(size):
    np.testing.assert_allclose(landmark_template(size), GOLDEN["templates"][str(size)], atol=1e-4)


@pytest.mark.parametrize("number", range(24))
def test_published_alignment(number):
    case = GOLDEN["cases"][number]
    size = case["size"]
    alignment = align_face(np.array(case["landmarks"]), size)
    corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]], np.float64)
    expected, found = corners @ np.array(case["inverse"]).T, corners @ alignment.inverse.T
    assert np.abs(found - expected).max() < 1e-3  # input pixels
    back = np.hstack((expected, np.ones((4, 1)))) @ alignment.matrix.T
    assert np.abs(back - corners[:, :2]).max() < 1e-3 * max(1, alignment.scale)


def test_there_are_24_cases():
    assert len(GOLDEN["cases"]) == 24


def test_similarity_is_the_least_squares_one():
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(5, 2)) * 40, rng.normal(size=(5, 2)) * 9
    best = fit_similarity(source, target)

    def residual(matrix):
        return ((source @ matrix[:, :2].T + matrix[:, 2] - target) ** 2).sum()

    for step in np.eye(4) * 1e-3:
        a, b, x, y = step
        for sign in (1, -1):
            assert residual(best) <= residual(best + sign * np.array([[a, -b, x], [b, a, y]]))


def test_inverse_undoes_the_matrix():
    matrix = fit_similarity(np.array([[10.0, 20], [50, 30], [30, 60]]), np.array([[5.0, 5], [9, 7], [6, 12]]))
    composed = np.vstack((matrix, [0, 0, 1])) @ np.vstack((invert_affine(matrix), [0, 0, 1]))
    np.testing.assert_allclose(composed, np.eye(3), atol=1e-12)


GOOD = landmark_template(512)
DEGENERATE = {
    "one point": np.full((5, 2), 100.0),
    "less than a pixel": GOOD * 0.004,
    "nan": np.where(np.eye(5, 2, dtype=bool), np.nan, GOOD),
    "infinite": np.where(np.eye(5, 2, dtype=bool), np.inf, GOOD),
    "a level line": GOOD * [1.0, 0.0],
    "mirrored": GOOD * [-1.0, 1.0],
    "eyes below the mouth, not turned": GOOD * [1.0, -1.0],
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_landmarks_leave_the_face_alone_and_say_why(case):
    reason = align_face(DEGENERATE[case], 512)
    assert isinstance(reason, str) and "landmarks" in reason
    face = helpers.Face((10.0, 10.0, 90.0, 90.0), 0.99, DEGENERATE[case])
    image = helpers.texture(100, 100)
    result = helpers.restorer(helpers.identity_weights(256), [face]).restore(image)
    assert not result.faces[0].restored and "landmarks" in result.faces[0].reason
    assert np.array_equal(result.image, image) and not result.mask.any()


@pytest.mark.parametrize("angle", [0, 45, 90, 180, 275])
@pytest.mark.parametrize("profile", [1.0, 0.6, 0.25])
def test_turned_heads_and_profiles_are_aligned(angle, profile):
    turn = np.radians(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    alignment = align_face((GOOD * [profile, 1]) @ rotation.T * 0.3 + 400, 512)
    assert not isinstance(alignment, str)
    assert 1 < alignment.scale < 5


def test_ffhq_template_shows_more_of_the_head():
    face = helpers.make_face((200, 200), 100)
    gpen, ffhq = align_face(face.landmarks, 512), align_face(face.landmarks, 512, "ffhq")
    assert ffhq.scale / gpen.scale == pytest.approx(1 / 0.890, abs=0.01)


def test_crop_shows_the_image_where_the_matrix_says():
    y, x = np.mgrid[0:300, 0:400].astype(np.float32)
    image = np.dstack((x / 400, y / 300, np.zeros_like(x)))
    face = helpers.make_face((210, 140), 90, tilt=20)
    alignment = align_face(face.landmarks, 256)
    crop = crop_face(to_image_data(image), alignment)
    v, u = np.mgrid[0:256, 0:256]
    expected = np.dstack((u, v, np.ones_like(u))) @ alignment.inverse.T / [400, 300]
    assert np.abs(crop[..., :2] - expected).max() < 1e-3


def test_border_is_repeated_beyond_the_image():
    image = np.zeros((100, 100, 3), np.float32)
    image[:, 0] = (1.0, 0.5, 0.25)
    face = helpers.make_face((0, 50), 60)
    crop = crop_face(to_image_data(image), align_face(face.landmarks, 256))
    np.testing.assert_allclose(crop[128, 20], (1.0, 0.5, 0.25), atol=1e-3)


def test_a_face_at_the_edge_is_restored_as_far_as_the_image_goes():
    image = helpers.texture(200, 160, sigma=1)
    face = helpers.make_face((4, 100), 90)
    result = helpers.restorer(helpers.constant_weights(256, (0.2, 0.6, 0.4)), [face]).restore(image)
    assert result.faces[0].restored
    assert result.mask[100, 0] == 1 and np.allclose(result.image[100, 0], (0.2, 0.6, 0.4), atol=1e-4)


@pytest.mark.parametrize("center", [(-30, 80), (190, 80), (80, -30), (80, 190)])
def test_a_face_whose_middle_is_outside_the_image_is_restored_as_far_as_the_image_goes(center):
    """Its square is 180 px wide, so 60 px of it are in the image."""
    image = helpers.texture(160, 160, sigma=1)
    face = helpers.make_face(center, 100)
    result = helpers.restorer(helpers.constant_weights(256, (0.2, 0.6, 0.4)), [face]).restore(image)
    assert result.faces[0].reason is None and result.faces[0].restored
    changed = np.abs(result.image - image).max(2) > 0.01
    assert (
        changed.any() and not changed[np.hypot(*(np.mgrid[:160, :160] - np.array(center[::-1])[:, None, None])) > 130].any()
    )


def test_a_face_outside_the_image_is_left_alone():
    image = helpers.texture(64, 64)
    face = helpers.make_face((900, 900), 50)
    result = helpers.restorer(helpers.identity_weights(256), [face]).restore(image)
    assert result.faces[0].reason == "it is outside the image" and np.array_equal(result.image, image)


def test_an_ellipses_edge_is_at_one():
    radius = ellipse_radius(100, (0.5, 0.6), (0.2, 0.3))
    assert radius.shape == (100, 100)
    assert radius[59:61, 49:51].max() < 0.04  # around its center
    for y, x in ((60, 30), (60, 70), (30, 50), (90, 50)):  # where its axes end
        assert radius[y - 1 : y + 1, x - 1 : x + 1].min() < 1 < radius[y - 1 : y + 1, x - 1 : x + 1].max()
