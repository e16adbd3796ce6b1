"""Colors: matched to the input's, and none added to what is gray or of one tone."""

import io

import cv2
import helpers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gpen_core.faces.align import align_face, crop_face
from gpen_core.faces.color import fit_tone, photo_residual, transfer_color
from gpen_core.faces.mask import square_mask
from gpen_core.images.image import LUMA, to_image_data
from gpen_core.options import RestoreOptions
from gpen_core.tools.demo.images import HEAD_BOX, astronaut

compositor_backend = pytest.mark.usefixtures("compositor_backend")
ONES = np.ones((512, 512), np.float32)


def flat(size, color):
    return np.full((size, size, 3), color, np.float32)


def test_matched_colors_are_the_inputs():
    crop = helpers.texture(256, 256, seed=1) * np.float32([0.5, 0.8, 1]) + np.float32([0.1, 0, 0])
    restored = helpers.texture(256, 256, seed=2) * np.float32(0.6) + np.float32(0.2)
    inside = square_mask()[::2, ::2] >= 0.5
    matched = transfer_color(restored, crop, square_mask())
    assert abs(restored[inside].mean(0) - crop[inside].mean(0)).max() > 0.05
    np.testing.assert_allclose(matched[inside].mean(0), crop[inside].mean(0), atol=0.01)
    np.testing.assert_allclose(matched[inside].std(0), crop[inside].std(0), atol=0.01)


@pytest.mark.parametrize("empty", [False, True])
def test_matching_a_flat_face_or_an_empty_mask_is_harmless(empty):
    crop, restored = helpers.texture(64, 64), flat(64, (0.3, 0.3, 0.3))
    mask = ONES * (0 if empty else 1)
    matched = transfer_color(restored, crop, mask)
    expected = restored if empty else np.broadcast_to(crop.mean((0, 1)), restored.shape)
    np.testing.assert_allclose(matched, expected, atol=1e-5)


@compositor_backend
@pytest.mark.slow
def test_color_match_takes_a_cast_away():
    image = helpers.texture(300, 300, sigma=1) * np.float32(0.6)
    face = helpers.make_face((150, 150), 120)
    restorer = helpers.restorer(helpers.red_weights(256, 0.5), [face])
    cast, matched = (restorer.restore(image, RestoreOptions(color=color)).image for color in ("none", "match"))
    inside = (slice(120, 180), slice(120, 180), 0)
    assert cast[inside].mean() - image[inside].mean() > 0.2
    assert abs(matched[inside].mean() - image[inside].mean()) < 0.02


def jpeg(image, quality):
    buffer = io.BytesIO()
    Image.fromarray(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"), np.float32) / 255


def head():
    """The astronaut's, in color, and her face."""
    x0, y0, x1, y1 = HEAD_BOX
    image = cv2.resize(astronaut()[y0:y1, x0:x1].astype(np.float32) / 255, (560, 560), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 1), helpers.make_face((324, 265), 235)


def in_gray(image):
    return np.repeat((image @ LUMA)[..., None], 3, axis=2)


def in_sepia(image):
    return in_gray(image) ** np.float32([0.85, 1, 1.3])


def crop_of(image, face, size=256):
    return crop_face(to_image_data(image), align_face(face.landmarks, size))


def is_of_one_tone(image, face):
    return fit_tone(crop_of(image, face), photo_residual(to_image_data(image)))[1]


FORMATS = [None, 60, 75, 95]


@compositor_backend
@pytest.mark.parametrize("quality", FORMATS)
@pytest.mark.slow
def test_a_gray_photograph_stays_gray_with_a_checkpoint_that_adds_red(quality):
    image, face = head()
    gray = np.rint(in_gray(image) * 255).astype(np.uint8)
    given = gray if quality is None else np.rint(jpeg(in_gray(image), quality) * 255).astype(np.uint8)
    restorer = helpers.restorer(helpers.red_weights(256), [face])
    plain, auto = (restorer.restore(given, RestoreOptions(color=color)) for color in ("none", "auto"))
    assert np.ptp(plain.image[265, 324]) > 50 and auto.mask[265, 324] == 1
    assert np.ptp(auto.image.astype(int), axis=2).max() <= (0 if quality is None else 1)
    assert auto.is_changed and RestoreOptions().color == "auto"


@pytest.mark.parametrize("quality", FORMATS)
def test_sepia_keeps_its_line_of_tones(quality):
    image, face = head()
    sepia = in_sepia(image) if quality is None else jpeg(in_sepia(image), quality)
    crop = crop_of(sepia, face)
    tone, is_all = fit_tone(crop, photo_residual(to_image_data(sepia)))
    assert is_all
    inside = square_mask()[::2, ::2] == 1
    reddened = np.clip(crop + np.float32([0.3, 0, 0]), 0, 1)
    toned = tone.apply(reddened)
    luma = toned @ LUMA
    ideal = in_sepia(toned)  # of that luminance in gray: sepia's own is close to it
    expected = ideal - (ideal @ LUMA - luma)[..., None]
    assert np.abs(toned - expected)[inside].mean() < 0.012  # the red that was added is twenty times as much
    assert np.abs(luma - reddened @ LUMA)[inside].mean() < 0.004


SIDES = (40, 80, 400)
LIGHTS = ((1.0, 1.0), (0.25, 1.0), (0.1, 1.0), (1.0, 0.3), (1.0, 0.15))  # light and color


def assert_told_apart(light, color, quality, side):
    """The head in that light, size and JPEG quality is known to be in color, and in gray known to be gray."""
    image, face = head()
    gray = in_gray(image)
    changed = (gray + color * (image - gray)) * np.float32(light)
    small = cv2.resize(changed, (side, side), interpolation=cv2.INTER_AREA)
    changed = cv2.resize(small if quality is None else jpeg(small, quality), (560, 560), interpolation=cv2.INTER_CUBIC)
    assert [is_of_one_tone(one, face) for one in (changed, in_gray(changed))] == [False, True]


@pytest.mark.parametrize("light", LIGHTS, ids=str)
@pytest.mark.parametrize("quality", FORMATS)
def test_no_colored_face_turns_gray(light, quality):
    """Every pair of light, quality and side occurs."""
    assert_told_apart(*light, quality, SIDES[(LIGHTS.index(light) + FORMATS.index(quality)) % 3])


@pytest.mark.parametrize("side", [190, 560])
@pytest.mark.parametrize("quality", [None, 50, 80])
@pytest.mark.parametrize("noise", [0, 4, 12])
@pytest.mark.parametrize("tone", [in_gray, in_sepia, lambda image: in_gray(image) * [0.55, 0.5, 0.4] + [0.25, 0.22, 0.15]])
def test_noise_and_jpeg_are_no_colors_of_an_old_photograph(tone, noise, quality, side):
    """Gray, sepia and faded sepia, with noise in each channel; faces of 80 and 235 px."""
    image, face = head()
    old = cv2.resize(tone(image), (side, side), interpolation=cv2.INTER_AREA)
    old = np.clip(old + np.random.default_rng(7).normal(0, noise / 255, old.shape), 0, 1).astype(np.float32)
    old = old if quality is None else jpeg(old, quality)
    face = helpers.make_face(np.array(face.center) * side / 560, 235 * side / 560)
    assert is_of_one_tone(old, face)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    light=st.tuples(st.floats(0.1, 1), st.just(1.0)) | st.tuples(st.just(1.0), st.floats(0.15, 1)),
    quality=st.none() | st.integers(60, 95),
    side=st.integers(40, 400),
)
@pytest.mark.slow
def test_no_colored_face_turns_gray_in_any_light_quality_or_size(light, quality, side):
    assert_told_apart(*light, quality, side)


@compositor_backend
@pytest.mark.slow
def test_a_gray_face_in_a_colored_image_stays_gray_and_the_colored_one_beside_it_does_not():
    image, face = head()
    both = np.concatenate((image, in_gray(image)), axis=1)
    other = helpers.make_face((324 + 560, 265), 235)
    restorer = helpers.restorer(helpers.red_weights(256), [face, other])
    result = restorer.restore(both, RestoreOptions())
    reds = result.image[..., 0] - result.image[..., 1]
    assert reds[265, 324] - (image[265, 324, 0] - image[265, 324, 1]) > 0.2
    assert abs(reds[265, 324 + 560]) < 1e-6
