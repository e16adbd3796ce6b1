"""Pasting back: who wins, what stays, and that nothing is added or lost on the way."""

import helpers
import numpy as np
import pytest

from gpen_core.faces.align import align
from gpen_core.faces.blend import Canvas, match_colour, soften_small
from gpen_core.faces.mask import feather
from gpen_core.options import RestoreOptions
from gpen_core.pictures.picture import as_picture

ONES = np.ones((512, 512), np.float32)


def flat(size, colour):
    return np.broadcast_to(np.float32(colour), (size, size, 3)).copy()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_pixels_outside_the_mask_are_bit_for_bit_the_inputs(dtype, strength):
    image = helpers.texture(120, 150)
    image = (image * np.iinfo(dtype).max).astype(dtype) if np.issubdtype(dtype, np.integer) else image.astype(dtype)
    face = helpers.face_at((70, 60), 40, tilt=30)
    options = RestoreOptions(strength=strength)
    result = helpers.restorer(helpers.constant_weights(256, (1, 0, 1)), [face]).restore(image, options)
    outside = result.mask == 0
    assert 0.3 < outside.mean() < 0.95 and result.image.dtype == dtype
    assert np.array_equal(result.image[outside], image[outside])
    assert (result.image[result.mask == strength] != image[result.mask == strength]).any()
    assert result.mask.max() == np.float32(strength)


def test_the_larger_mask_value_wins():
    picture = as_picture(np.zeros((200, 300, 3), np.float32))
    canvas = Canvas(picture)
    left, right = (align(helpers.face_at((x, 100), 80).landmarks, 256) for x in (120, 180))
    canvas.paste(flat(256, (1, 0, 0)), feather(), left)
    alone = canvas.mask.copy()
    canvas.paste(flat(256, (0, 1, 0)), feather(), right)
    other = Canvas(picture)
    other.paste(flat(256, (0, 1, 0)), feather(), right)
    np.testing.assert_array_equal(canvas.mask, np.maximum(alone, other.mask))
    assert ((alone > 0) & (other.mask > 0)).any()
    from_right = other.mask > alone
    assert not canvas.result.pixels[from_right][:, 0].any()  # no red of the left face mixed in
    np.testing.assert_allclose(canvas.result.pixels[from_right][:, 1], other.mask[from_right], atol=1e-6)


@pytest.mark.parametrize("colour", [(0.2, 0.4, 0.8), (0, 0, 0), (1, 1, 1)])
@pytest.mark.parametrize("side", [50, 150, 500])
def test_a_constant_network_leaves_exactly_its_colour(colour, side):
    span = side * 3
    image = (helpers.texture(span, span) * 255).astype(np.uint8)
    face = helpers.face_at((span / 2, span / 2), side, tilt=9)
    result = helpers.restorer(helpers.constant_weights(256, colour), [face]).restore(image)
    full = result.mask == 1
    assert full.sum() > 0.5 * side**2
    assert (result.image[full] == np.rint(np.float32(colour) * 255)).all()


def test_strength_zero_changes_nothing_and_runs_nothing():
    image = helpers.texture(200, 200)
    restorer = helpers.restorer(helpers.constant_weights(256, (1, 0, 0)), [helpers.face_at((100, 100), 80)])
    result = restorer.restore(image, RestoreOptions(strength=0))
    assert np.array_equal(result.image, image) and not result.mask.any()
    assert not result.faces[0].restored and result.faces[0].reason == "the strength is 0"
    assert result.seconds["network"] == 0


def test_half_strength_is_half_way():
    image = np.zeros((200, 200, 3), np.float32)
    restorer = helpers.restorer(helpers.constant_weights(256, (1, 0.5, 0)), [helpers.face_at((100, 100), 80)])
    result = restorer.restore(image, RestoreOptions(strength=0.5))
    np.testing.assert_allclose(result.image[100, 100], (0.5, 0.25, 0), atol=1e-5)


def test_grey_pictures_stay_grey():
    image = (helpers.texture(200, 200)[..., 0] * 255).astype(np.uint8)
    restorer = helpers.restorer(helpers.constant_weights(256, (1, 0, 0)), [helpers.face_at((100, 100), 80)])
    result = restorer.restore(image)
    assert result.image.shape == image.shape and result.image[100, 100] == round(0.299 * 255)


def test_alpha_is_kept():
    image = (helpers.texture(200, 200) * 255).astype(np.uint8)
    alpha = (helpers.texture(200, 200, seed=9)[..., :1] * 255).astype(np.uint8)
    face = helpers.face_at((100, 100), 80)
    result = helpers.restorer(helpers.constant_weights(256, (1, 0, 0)), [face]).restore(np.dstack((image, alpha)))
    assert np.array_equal(result.image[..., 3:], alpha) and (result.image[100, 100, :3] == (255, 0, 0)).all()


def test_faces_under_100_pixels_are_softened_as_published():
    crop = np.zeros((9, 9, 3), np.float32)
    crop[4, 4] = 1
    small, large = (soften_small(crop, helpers.face_at((0, 0), side)) for side in (99, 100))
    np.testing.assert_allclose(small[3:6, 3:6, 0], np.outer([1, 2, 1], [1, 2, 1]) / 16)
    assert np.array_equal(large, crop)


def test_matched_colours_are_the_inputs():
    crop = helpers.texture(256, 256, seed=1) * np.float32([0.5, 0.8, 1]) + np.float32([0.1, 0, 0])
    restored = helpers.texture(256, 256, seed=2) * np.float32(0.6) + np.float32(0.2)
    inside = feather()[::2, ::2] >= 0.5
    matched = match_colour(restored, crop, feather())
    assert abs(restored[inside].mean(0) - crop[inside].mean(0)).max() > 0.05
    np.testing.assert_allclose(matched[inside].mean(0), crop[inside].mean(0), atol=0.01)
    np.testing.assert_allclose(matched[inside].std(0), crop[inside].std(0), atol=0.01)


@pytest.mark.parametrize("empty", [False, True])
def test_matching_a_flat_face_or_an_empty_mask_is_harmless(empty):
    crop, restored = helpers.texture(64, 64), flat(64, (0.3, 0.3, 0.3))
    mask = ONES * (0 if empty else 1)
    matched = match_colour(restored, crop, mask)
    expected = restored if empty else np.broadcast_to(crop.mean((0, 1)), restored.shape)
    np.testing.assert_allclose(matched, expected, atol=1e-5)


def test_color_match_takes_a_cast_away():
    image = helpers.texture(300, 300, sigma=1) * np.float32(0.6)
    face = helpers.face_at((150, 150), 120)
    restorer = helpers.restorer(helpers.red_weights(256, 0.5), [face])
    cast, matched = (restorer.restore(image, RestoreOptions(color=color)).image for color in ("none", "match"))
    inside = (slice(120, 180), slice(120, 180), 0)
    assert cast[inside].mean() - image[inside].mean() > 0.2
    assert abs(matched[inside].mean() - image[inside].mean()) < 0.02
