"""Pasting back: who wins, what stays, and that nothing is added or lost on the way."""

import helpers
import numpy as np
import pytest

from gpen_core.faces.align import align_face
from gpen_core.faces.blend import Canvas, blur_small_face
from gpen_core.faces.mask import feather_edges, square_mask
from gpen_core.images.image import to_image_data
from gpen_core.options import RestoreOptions

pytestmark = pytest.mark.usefixtures("compositor_backend")

ONES = np.ones((512, 512), np.float32)


def flat(size, color):
    return np.broadcast_to(np.float32(color), (size, size, 3)).copy()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.slow
def test_pixels_outside_the_mask_are_bit_for_bit_the_inputs(dtype, strength):
    image = helpers.texture(120, 150)
    image = (image * np.iinfo(dtype).max).astype(dtype) if np.issubdtype(dtype, np.integer) else image.astype(dtype)
    face = helpers.make_face((70, 60), 40, tilt=30)
    options = RestoreOptions(strength=strength)
    result = helpers.restorer(helpers.constant_weights(256, (1, 0, 1)), [face]).restore(image, options)
    outside = result.mask == 0
    assert 0.3 < outside.mean() < 0.95 and result.image.dtype == dtype
    assert np.array_equal(result.image[outside], image[outside])
    assert (result.image[result.mask == strength] != image[result.mask == strength]).any()
    assert result.mask.max() == np.float32(strength)


SIDE = 160  # px of a face; its square is about twice as wide


RED_AND_GREEN = flat(256, (1, 0, 0)), flat(256, (0, 1, 0))


def pair(picture, order=(0, 1), strength=1.0, crops=RED_AND_GREEN, at=(220, 350), masks=None):
    """Two faces side by side, their squares overlapping. `strength` is of both, or of each."""
    canvas = Canvas(to_image_data(picture))
    alignments = [align_face(helpers.make_face((x, 200), SIDE).landmarks, 256) for x in at]
    for n in order:
        canvas.paste(crops[n], square_mask() if masks is None else masks[n], alignments[n], np.broadcast_to(strength, 2)[n])
    return canvas


def alone(picture, n, **kwargs):
    return pair(picture, (n,), **kwargs)


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_between_two_faces_the_border_is_smooth_and_each_keeps_its_own_middle(dtype, strength):
    """Crops that paint their own coordinates: where squares overlap, one shows its right end, the other its left."""
    ramp = np.broadcast_to(np.linspace(0, 1, 256, dtype=np.float32)[None, :, None], (256, 256, 3)).copy()
    picture = np.full((400, 570, 3), 0.5 if dtype is np.float32 else 128, dtype)
    peak = 1 if dtype is np.float32 else 255
    results = {}
    for order in ((0, 1), (1, 0)):
        canvas = pair(picture, order, strength, (ramp, ramp))
        results[order] = canvas.result.pixels[200, :, 0].astype(float) / peak
    row = results[0, 1]
    one, other = (alone(picture, n, strength=strength, crops=(ramp, ramp)) for n in (0, 1))
    both = (one.mask[200] == strength) & (other.mask[200] == strength)
    left, right = (canvas.result.pixels[200, :, 0].astype(float) / peak for canvas in (one, other))
    assert both.sum() > 0.5 * SIDE
    border = int(np.flatnonzero(both)[np.abs(left - right)[both].argmax()])
    assert abs(left - right)[border] > 0.35 * strength
    rounding = 2 / peak if dtype is np.uint8 else 1e-6
    ramps = np.abs(np.diff(left)).max() * 1.01
    steepest = np.abs(left - right)[both].max() / (0.08 * SIDE)
    assert np.abs(np.diff(row))[both[1:] & both[:-1]].max() <= steepest + ramps + rounding
    near = slice(220 - SIDE // 4, 220 + SIDE // 4), slice(350 - SIDE // 4, 350 + SIDE // 4)
    np.testing.assert_allclose(row[near[0]], left[near[0]], atol=0.01 + rounding)
    np.testing.assert_allclose(row[near[1]], right[near[1]], atol=0.01 + rounding)
    np.testing.assert_allclose(results[1, 0], row, atol=1e-5 + rounding)


@pytest.mark.parametrize("strengths", [(0.25, 1.0), (1.0, 0.05)])
def test_each_of_two_faces_keeps_its_own_strength(strengths):
    """`min_identity` lowers the strength of one face, and in a video a face fades in beside another."""
    picture = np.zeros((400, 570, 3), np.float32)
    canvas, swapped = (pair(picture, order, strengths) for order in ((0, 1), (1, 0)))
    for n, x in enumerate((220, 350)):
        near = slice(x - SIDE // 4, x + SIDE // 4)
        one, full = alone(picture, n, strength=strengths), alone(picture, 1 - n).mask[200, near]
        assert full.max() == 1  # the square of the other face reaches into this one
        np.testing.assert_allclose(canvas.mask[200, near], one.mask[200, near], atol=0.01)
        np.testing.assert_allclose(canvas.result.pixels[200, near], one.result.pixels[200, near], atol=0.01)
    np.testing.assert_allclose(swapped.mask, canvas.mask, atol=1e-5)
    np.testing.assert_allclose(swapped.result.pixels, canvas.result.pixels, atol=1e-5)


def test_the_part_of_two_faces_together_is_the_larger_one():
    picture = np.zeros((400, 570, 3), np.float32)
    canvas, left, right = pair(picture), alone(picture, 0), alone(picture, 1)
    np.testing.assert_array_equal(canvas.mask, np.maximum(left.mask, right.mask))
    assert ((left.mask > 0) & (right.mask > 0)).any()
    total = canvas.result.pixels.sum(axis=2)  # red and green: nothing is added or lost between them
    np.testing.assert_allclose(total, canvas.mask, atol=1e-5)
    np.testing.assert_array_equal(canvas.result.pixels[left.mask == 0], right.result.pixels[left.mask == 0])
    np.testing.assert_array_equal(canvas.result.pixels[right.mask == 0], left.result.pixels[right.mask == 0])


def test_a_face_that_is_nearer_fades_into_its_neighbor_as_its_mask_does():
    """Without a step where its mask ends inside the other's."""
    picture = np.zeros((400, 570, 3), np.float32)
    narrow = np.zeros((512, 512), np.float32)
    narrow[200:312, 200:312] = 1
    for order in ((0, 1), (1, 0)):
        canvas = pair(picture, order, masks=(feather_edges(narrow), square_mask()), at=(280, 330))
        step = np.abs(np.diff(canvas.result.pixels[200, 200:400], axis=0)).max()
        assert step < 1.1 * np.abs(np.diff(feather_edges(narrow), axis=1)).max() * 512 / (2 * SIDE)


def test_a_limit_of_nothing_beside_a_face_leaves_both():
    picture = np.zeros((400, 570, 3), np.float32)
    region_mask = np.zeros((400, 570), np.float32)
    region_mask[:, :285] = 1
    canvas = Canvas(to_image_data(picture), region_mask)
    for x, color in ((220, (1, 0, 0)), (350, (0, 1, 0))):
        canvas.paste(flat(256, color), square_mask(), align_face(helpers.make_face((x, 200), SIDE).landmarks, 256))
    assert not canvas.result.pixels[:, 285:].any() and np.isfinite(canvas.result.pixels).all()
    assert canvas.result.pixels[200, 220].tolist() == pytest.approx([1, 0, 0], abs=0.01)


@pytest.mark.parametrize("color", [(0.2, 0.4, 0.8), (0, 0, 0), (1, 1, 1)])
@pytest.mark.parametrize("side", [50, 150, 500])
@pytest.mark.slow
def test_a_constant_network_leaves_exactly_its_color(color, side):
    span = side * 3
    image = (helpers.texture(span, span) * 255).astype(np.uint8)
    face = helpers.make_face((span / 2, span / 2), side, tilt=9)
    result = helpers.restorer(helpers.constant_weights(256, color), [face]).restore(image)
    full = result.mask == 1
    assert full.sum() > 0.5 * side**2
    assert (result.image[full] == np.rint(np.float32(color) * 255)).all()


def test_strength_zero_changes_nothing_and_runs_nothing():
    image = helpers.texture(200, 200)
    restorer = helpers.restorer(helpers.constant_weights(256, (1, 0, 0)), [helpers.make_face((100, 100), 80)])
    result = restorer.restore(image, RestoreOptions(strength=0))
    assert np.array_equal(result.image, image) and not result.mask.any()
    assert not result.faces[0].restored and result.faces[0].reason == "at zero strength"
    assert result.seconds["network"] == 0


def test_half_strength_is_half_way():
    image = np.zeros((200, 200, 3), np.float32)
    restorer = helpers.restorer(helpers.constant_weights(256, (1, 0.5, 0)), [helpers.make_face((100, 100), 80)])
    result = restorer.restore(image, RestoreOptions(strength=0.5, color="none"))
    np.testing.assert_allclose(result.image[100, 100], (0.5, 0.25, 0), atol=1e-5)


def test_gray_images_stay_gray():
    image = (helpers.texture(200, 200)[..., 0] * 255).astype(np.uint8)
    restorer = helpers.restorer(helpers.constant_weights(256, (1, 0, 0)), [helpers.make_face((100, 100), 80)])
    result = restorer.restore(image)
    assert result.image.shape == image.shape and result.image[100, 100] == round(0.299 * 255)


def test_alpha_is_kept():
    image = (helpers.texture(200, 200) * 255).astype(np.uint8)
    alpha = (helpers.texture(200, 200, seed=9)[..., :1] * 255).astype(np.uint8)
    face = helpers.make_face((100, 100), 80)
    result = helpers.restorer(helpers.constant_weights(256, (1, 0, 0)), [face]).restore(np.dstack((image, alpha)))
    assert np.array_equal(result.image[..., 3:], alpha) and (result.image[100, 100, :3] == (255, 0, 0)).all()


def test_faces_under_100_pixels_are_softened_as_published():
    crop = np.zeros((9, 9, 3), np.float32)
    crop[4, 4] = 1
    small, large = (blur_small_face(crop, helpers.make_face((0, 0), side)) for side in (99, 100))
    np.testing.assert_allclose(small[3:6, 3:6, 0], np.outer([1, 2, 1], [1, 2, 1]) / 16)
    assert np.array_equal(large, crop)
