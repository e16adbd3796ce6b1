"""Grain on restored faces: as much as around them, in each band and color, and none where there is none."""

from itertools import pairwise

import cv2
import helpers
import numpy as np
import pytest
from skimage import data

from gpen_core.faces import grain, spectrum
from gpen_core.faces.align import align_face, crop_face
from gpen_core.faces.blend import Canvas
from gpen_core.faces.mask import square_mask
from gpen_core.images.image import Region, to_image_data
from gpen_core.options import RestoreOptions
from gpen_core.pipeline.inputs import RestoreInput

SMOOTH = 0.4  # 102 of 255: what a smoothing network gives
SIDE = 200  # px of the face
FACE = helpers.make_face((256, 200), SIDE, tilt=8)
FLAT = np.full((256, 256, 3), SMOOTH, np.float32)


def pasted(image, amount=1.0, strength=1.0, crop=FLAT, face=FACE, mask=None):
    """A face as a network gave it, put into the image."""
    canvas = Canvas(to_image_data(image))
    canvas.paste(crop, square_mask() if mask is None else mask, align_face(face.landmarks, len(crop)), strength, amount)
    return canvas


@pytest.fixture(scope="module")
def restorer():
    """Finds one face in the middle of 512 x 512 pixels and paints it gray: nothing is left of its own noise."""
    return helpers.restorer(helpers.constant_weights(256, (SMOOTH,) * 3), [FACE])


@pytest.fixture(scope="module")
def clean(astronaut):
    """[512, 512, 3] float32: the photograph without its own noise."""
    return cv2.GaussianBlur(astronaut.astype(np.float32) / 255, (0, 0), 1.5)


ALL = np.ones((512, 512))


def noise_of(kind, levels, shape=(512, 512, 3), seed=5):
    """Of a deviation of `levels` / 255: white, coarser than the pixel, or the same in R, G and B."""
    noise = np.random.default_rng(seed).standard_normal(shape, np.float32)
    if kind == "coarse":
        noise = cv2.GaussianBlur(noise, (0, 0), 1)
    if kind == "gray":
        noise = noise[..., :1].repeat(3, axis=2)
    return noise * np.float32(levels / 255 / noise.std())


def with_noise(picture, noise):
    return np.rint(np.clip(picture + noise, 0, 1) * 255).astype(np.uint8)


def bands(noise, inside):
    """Deviations in three bands, in parts of 255."""
    levels = [noise, *(cv2.GaussianBlur(noise, (0, 0), sigma) for sigma in (1, 2, 4))]
    inner = cv2.erode(inside.astype(np.uint8), np.ones((25, 25)), borderValue=1) > 0
    return np.array([255 * (fine - rough)[inner].std() for fine, rough in pairwise(levels)])


def on_face(canvas):
    """The noise of a face that would be flat, and where it is."""
    inside = canvas.mask == 1
    whole = Region(0, 0, *canvas.result.size)
    return np.where(inside[..., None], canvas.result.crop_rgb(whole) - np.float32(SMOOTH), 0).astype(np.float32), inside


def check_fits(measured, expected):
    assert (np.abs(measured - expected) <= np.maximum(0.15 * expected, 0.3)).all(), (measured, expected)


@pytest.mark.parametrize("kind", ["white", "coarse", "gray"])
@pytest.mark.parametrize("levels", [0, 2, 4, 8, 12])
@pytest.mark.slow
def test_a_smooth_face_gets_the_noise_of_its_surroundings_in_three_bands(clean, kind, levels):
    noise = noise_of(kind, levels)
    picture = with_noise(clean, noise)
    check_fits(bands(*on_face(pasted(picture))), bands(noise, ALL))
    assert bands(*on_face(pasted(picture, 0))).max() < 0.01


def test_so_does_one_that_a_smoothing_network_gave(restorer, clean):
    noise = noise_of("white", 8)
    result = restorer.restore(with_noise(clean, noise), RestoreOptions(grain=1))
    left = np.where(result.mask[..., None] == 1, result.image / np.float32(255) - np.float32(SMOOTH), 0)
    check_fits(bands(left, result.mask == 1), bands(noise, ALL))


@pytest.mark.parametrize("name", ["coffee", "chelsea"])
@pytest.mark.parametrize("levels", [0, 4])
def test_structure_is_no_noise(name, levels):
    picture = cv2.GaussianBlur(getattr(data, name)().astype(np.float32) / 255, (0, 0), 1.5)
    height, width = picture.shape[:2]
    image = with_noise(picture, noise_of("white", levels, picture.shape))
    noise = image / np.float32(255) - picture  # of rounding, too
    canvas = pasted(image, face=helpers.make_face((width / 2, height / 2), 0.4 * height))
    check_fits(bands(*on_face(canvas)), bands(noise, np.ones((height, width))))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_clean_image_stays_as_it_is(astronaut, dtype):
    smooth = cv2.GaussianBlur(astronaut, (0, 0), 3)
    for image in (smooth, np.full_like(smooth, 64)):
        picture = image if dtype is np.uint8 else image.astype(np.float32) / 255
        with_grain, without = (pasted(picture, amount).result.pixels for amount in (1, 0))
        # Without grain, the crop is warped into a smaller rectangle, so that floats are rounded in another way.
        np.testing.assert_allclose(with_grain, without, rtol=0, atol=0 if dtype is np.uint8 else 1e-6)


def correlation(noise, inside):
    return np.corrcoef(noise[inside].T)[np.triu_indices(3, 1)]


def test_gray_grain_stays_gray_and_color_noise_stays_colored(clean):
    gray, colored = (correlation(*on_face(pasted(with_noise(clean, noise_of(kind, 8))))) for kind in ("gray", "white"))
    assert gray.min() > 0.97 and np.abs(colored).max() < 0.1


def test_each_channel_gets_its_own_strength(clean):
    noise = noise_of("white", 1) * np.float32([4, 6, 12])
    measured, inside = on_face(pasted(with_noise(clean, noise)))
    np.testing.assert_allclose(255 * measured[inside].std(0), (4, 6, 12), rtol=0.15)


def test_noise_that_the_face_has_is_not_added_again(clean):
    """A crop that is the image's own square: only what resampling took away comes back."""
    noise = noise_of("coarse", 8)
    picture = with_noise(clean, noise)
    crop = crop_face(to_image_data(picture), align_face(FACE.landmarks, 256))
    whole, bare = (pasted(picture, amount, crop=crop) for amount in (1, 0))
    left, before = (canvas.result.pixels.astype(np.float32) / 255 - clean for canvas in (whole, bare))
    check_fits(bands(left, whole.mask == 1), bands(noise, ALL))
    added = np.sqrt(np.mean((left - before)[whole.mask == 1] ** 2))
    assert added < 0.75 * noise.std()


@pytest.mark.parametrize("strength", [0.3, 0.6])
def test_the_blend_has_the_noise_of_its_surroundings(clean, strength):
    """A part of a flat face over the rest of a noisy image."""
    noise = noise_of("white", 8)
    canvas = pasted(with_noise(clean, noise), strength=strength)
    mixed = clean + np.float32(strength) * (np.float32(SMOOTH) - clean)
    inside = canvas.mask == np.float32(strength)
    left = np.where(inside[..., None], canvas.result.pixels / np.float32(255) - mixed, 0)
    check_fits(bands(left, inside), bands(noise, ALL))


def test_the_amount_scales_the_deviation(clean):
    picture = with_noise(clean, noise_of("white", 10))
    half, full = (bands(*on_face(pasted(picture, amount))) for amount in (0.5, 1))
    np.testing.assert_allclose(half[0] / full[0], 0.5, rtol=0.03)


@pytest.mark.slow
def test_the_same_image_gives_the_same_grain_and_another_gives_another(restorer, clean):
    first, other = (with_noise(clean, noise_of("white", 6, seed=seed)) for seed in (1, 2))
    options = RestoreOptions(grain=1)
    alone = [restorer.restore(picture, options).image for picture in (first, other)]
    together = [
        result.image
        for result in restorer.restore_batch([RestoreInput(first), RestoreInput(first), RestoreInput(other)], options)
    ]
    assert np.array_equal(alone[0], together[0]) and np.array_equal(alone[0], together[1])
    assert np.array_equal(alone[1], together[2])
    grains = [pixels[150:250, 206:306].astype(np.float64).ravel() for pixels in alone]
    assert abs(np.corrcoef(grains)[0, 1]) < 0.05


def test_in_which_order_faces_come_makes_no_difference_and_their_border_has_grain_too(clean):
    picture = with_noise(clean, noise_of("white", 8)).astype(np.float32) / 255
    alignments = [align_face(helpers.make_face((x, 256), 160).landmarks, 256) for x in (190, 320)]
    results = []
    for order in ((0, 1), (1, 0)):
        canvas = Canvas(to_image_data(picture))
        for n in order:
            canvas.paste(FLAT, square_mask(), alignments[n], grain=1)
        results.append(canvas.result.pixels)
    np.testing.assert_allclose(results[0], results[1], atol=1e-4)
    np.testing.assert_allclose(255 * results[0][216:296, 250:260].std(), 8, rtol=0.15)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pixels_outside_the_mask_and_alpha_are_untouched(clean, dtype):
    noisy = np.clip(clean + noise_of("white", 8), 0, 1)
    alpha = helpers.texture(512, 512, seed=9)[..., :1]
    image = np.dstack((noisy, alpha))
    if dtype is not np.float32:
        image = np.rint(image * np.iinfo(dtype).max)
    image = image.astype(dtype)
    canvas = pasted(image)
    result = canvas.result.to_input_type()
    assert result.dtype == dtype and np.array_equal(result[..., 3], image[..., 3])
    assert np.array_equal(result[canvas.mask == 0], image[canvas.mask == 0])
    noise = result[..., :3].astype(np.float64)[canvas.mask == 1] * (255 / to_image_data(image).max_value)
    np.testing.assert_allclose(noise.std(0), 8, rtol=0.15)


def test_grain_is_measured_in_the_background_where_there_is_one(restorer, clean):
    """The image has none; the background, twice as large, has."""
    noise = noise_of("white", 8, (1024, 1024, 3))
    background = with_noise(cv2.resize(clean, (1024, 1024), interpolation=cv2.INTER_CUBIC), noise)
    result = restorer.restore(with_noise(clean, 0), RestoreOptions(grain=1), background=background)
    left = np.where(result.mask[..., None] == 1, result.image / np.float32(255) - np.float32(SMOOTH), 0)
    check_fits(bands(left, result.mask == 1), bands(noise, np.ones((1024, 1024))))


def test_a_gray_image_gets_grain(clean):
    image = with_noise(clean, noise_of("gray", 8))[..., 1]
    canvas = pasted(image)
    result = canvas.result.to_input_type()
    assert result.shape == image.shape
    np.testing.assert_allclose(result[canvas.mask == 1].std(), 8, rtol=0.15)


@pytest.mark.parametrize("size", [12, 40])
def test_faces_in_tiny_images_are_put_back(size):
    canvas = pasted(helpers.texture(size, size), face=helpers.make_face((size / 2, size / 2), size / 2))
    assert canvas.mask.any() and np.isfinite(canvas.result.pixels).all()


def white_patches(side, count=1500):
    return 0.5 + np.float32(0.02) * np.random.default_rng(1).standard_normal((count, side, side, 3), np.float32)


@pytest.mark.parametrize("side", spectrum.PATCH_SIZES)
def test_the_spectrum_of_white_noise_is_flat(side):
    measured = spectrum.estimate_noise(white_patches(side))
    np.testing.assert_allclose(measured.power / 0.02**2, np.broadcast_to(np.eye(3), (spectrum.NUM_RINGS, 3, 3)), atol=0.15)
    assert measured.variance == pytest.approx(0.02**2, rel=0.05)


@pytest.mark.parametrize("side", spectrum.PATCH_SIZES)
def test_energies_scatter_as_their_freedom_says(side):
    energy = spectrum.ring_energies(white_patches(side))[0][..., 0]
    np.testing.assert_allclose(2 * energy.mean(0) ** 2 / energy.var(0), spectrum.DEGREES_OF_FREEDOM[side], rtol=0.15)


def test_black_and_white_patches_say_nothing():
    assert spectrum.estimate_noise(np.zeros((50, 32, 32, 3), np.float32)) is None
    assert spectrum.estimate_noise(np.ones((50, 32, 32, 3), np.float32)) is None
    half = np.concatenate((np.zeros((500, 32, 32, 3), np.float32), white_patches(32, 200)))
    assert spectrum.estimate_noise(half).variance == pytest.approx(0.02**2, rel=0.1)


def test_power_taken_away_leaves_no_negative_one():
    measured = spectrum.estimate_noise(white_patches(32, 200))
    half, twice = (spectrum.Spectrum(measured.power * factor) for factor in (0.5, 2))
    assert measured.subtract(half).variance == pytest.approx(measured.variance / 2)
    assert measured.subtract(twice).variance == 0


def test_the_field_is_the_same_wherever_it_is_looked_at_from():
    noise = np.random.default_rng(7).standard_normal((300, 400, 3), np.float32)
    picture, alignment = (
        to_image_data(0.5 + np.float32(0.02) * noise),
        align_face(helpers.make_face((200, 150), 100).landmarks, 256),
    )

    def added(x0, y0, x1, y1):
        restored = np.full((y1 - y0, x1 - x0, 3), 0.5, np.float32)
        grain.add_grain(picture, alignment, Region(x0, y0, x1, y1), restored, np.ones(restored.shape[:2], np.float32), 1.0)
        return restored - 0.5

    whole, part = added(0, 0, 400, 300), added(130, 90, 290, 200)
    np.testing.assert_allclose(part, whole[90:200, 130:290], atol=1e-6)
    assert float(whole.std()) == pytest.approx(0.02, rel=0.05)
