"""Fidelity: what the input shows stays the input's, what it lacks stays the network's, and its defects do not come back."""

import io
import math

import cv2
import helpers
import numpy as np
import pytest
from PIL import Image

from gpen_core.faces.align import crop_face, full_square
from gpen_core.faces.fidelity import block_variance, estimate_reliability, keep_input
from gpen_core.images.image import LUMA, to_image_data
from gpen_core.options import RestoreOptions
from gpen_core.pipeline.inputs import RestoreInput

SIZE = 512
INSIDE = slice(64, -64)


def as_8bit(crop):
    return np.rint(np.clip(crop, 0, 1) * 255).astype(np.uint8)


def jpeg(crop, quality):
    buffer = io.BytesIO()
    Image.fromarray(as_8bit(crop)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), np.float32) / 255


def blurred(crop, sigma):
    return cv2.GaussianBlur(crop, (0, 0), sigma)


def noisy(crop, levels, seed=3):
    return crop + np.random.default_rng(seed).normal(0, levels / 255, crop.shape).astype(np.float32)


def reduced(crop, side):
    return cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)


def warped(crop, largest=8):
    """Moved by up to `largest` px along a smooth random field: another face."""
    field = cv2.GaussianBlur(np.random.default_rng(1).standard_normal((SIZE, SIZE, 2)).astype(np.float32), (0, 0), 40)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    dx, dy = np.moveaxis(field * (largest / np.abs(field).max()), 2, 0)
    return np.clip(cv2.remap(crop, x + dx, y + dy, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT), 0, 1)


def recolored(crop):
    return np.clip(crop * np.float32([1.12, 1, 0.9]) + np.float32(0.03), 0, 1)


DEFECTS = {
    "sharp": lambda crop: crop,
    "blur 2": lambda crop: blurred(crop, 2),
    "blur 8": lambda crop: blurred(crop, 8),
    "noise 10": lambda crop: noisy(crop, 10),
    "noise 25": lambda crop: noisy(crop, 25),
    "JPEG 95": lambda crop: jpeg(crop, 95),
    "JPEG 20": lambda crop: jpeg(crop, 20),
    "face of 100 px": lambda crop: reduced(crop, 200),
    "face of 20 px": lambda crop: reduced(crop, 40),
}


@pytest.fixture(scope="module")
def face(astronaut):
    """[512, 512, 3]: the astronaut's face and what is around it, without noise of its own."""
    return blurred(cv2.resize(astronaut[:256, 96:352], (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) / np.float32(255), 0.5)


def seen(picture):
    """The image, its alignment and its crop for a network of 512."""
    image = to_image_data(as_8bit(picture))
    alignment = full_square(image.width, SIZE)
    return image, alignment, crop_face(image, alignment)


def kept(picture, restored, amount=1.0):
    image, alignment, crop = seen(picture)
    return keep_input(amount, image, alignment, crop, np.asarray(restored, np.float32))


def inner_psnr(a, b):
    return helpers.psnr(a[INSIDE, INSIDE], b[INSIDE, INSIDE])


def color_of(crop):
    return crop - (crop @ LUMA)[..., None]


def detail(crop, sigma=3):
    return (crop - blurred(crop, sigma))[INSIDE, INSIDE]


def test_off_is_the_network_s_face(face):
    image, alignment, crop = seen(face)
    restored = warped(face)
    assert keep_input(0.0, image, alignment, crop, restored) is restored


@pytest.mark.parametrize("change", [warped, recolored, lambda face: face[:, ::-1]], ids=["warped", "recolored", "mirrored"])
def test_a_sharp_face_is_nearly_itself(face, change):
    assert inner_psnr(change(face), face) < 30
    assert inner_psnr(kept(face, change(face)), face) > 40


def test_half_of_it_is_halfway(face):
    restored = warped(face)
    expected = (restored + kept(face, restored)) / 2
    assert np.abs(kept(face, restored, 0.5) - expected).max() < 0.01


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_face_that_the_network_got_right_stays_the_network_s(face, defect):
    assert inner_psnr(kept(DEFECTS[defect](face), face), face) > 36


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_changed_face_comes_nearer_to_the_true_one(face, defect):
    restored = warped(face)
    result = kept(DEFECTS[defect](face), restored)
    assert inner_psnr(result, face) > inner_psnr(restored, face) + (0.05 if defect == "face of 20 px" else 0.5)


@pytest.mark.parametrize("defect", DEFECTS)
def test_color_and_light_follow_the_input(face, defect):
    restored = recolored(face)
    before, after = (np.abs(blurred(one - face, 24)).mean() for one in (restored, kept(DEFECTS[defect](face), restored)))
    assert after < 0.15 * before


def test_a_tiny_face_has_the_network_s_detail(face):
    restored = warped(face)
    left = detail(kept(DEFECTS["face of 20 px"](face), restored)) - detail(restored)
    assert left.std() < 0.1 * detail(restored).std()


@pytest.mark.parametrize(("levels", "share"), [(10, 0.6), (25, 0.4)])
def test_noise_does_not_come_back(face, levels, share):
    restored = warped(face)
    first, second = (kept(noisy(face, levels, seed), restored) for seed in (3, 4))
    noise = (first - second)[INSIDE, INSIDE].std() / math.sqrt(2) * 255
    assert noise < share * levels


def test_blotches_of_color_do_not_come_back(face):
    restored = warped(face)
    pictures = [noisy(face, 25, seed) for seed in (3, 4)]
    before, after = (
        blurred(color_of(one - other), 2)[INSIDE, INSIDE].std()
        for one, other in (pictures, [kept(picture, restored) for picture in pictures])
    )
    assert after < 0.3 * before


def test_blocks_do_not_come_back(face):
    picture, restored = jpeg(face, 20), warped(face)
    image, alignment, _ = seen(picture)
    result = to_image_data(kept(picture, restored))
    assert block_variance(image, alignment) > 20 / 255**2
    assert block_variance(result, alignment) < 0.1 * block_variance(image, alignment)


@pytest.mark.parametrize("picture", [lambda face: face, lambda face: noisy(face, 10), lambda face: blurred(face, 3)])
def test_without_jpeg_there_are_no_blocks(face, picture):
    image, alignment, _ = seen(picture(face))
    assert block_variance(image, alignment) < 1 / 255**2


@pytest.mark.parametrize("sigma", [0, 2, 4, 8])
def test_an_edge_does_not_ring(sigma):
    """One that the network made darker: it is corrected, and nothing swings beyond it."""
    edge = np.full((SIZE, SIZE, 3), 0.25, np.float32)
    edge[:, SIZE // 2 :] = 0.75
    restored = 0.2 + (edge - 0.25) * np.float32(0.9)
    result = kept(blurred(edge, sigma) if sigma else edge, restored)[:, INSIDE]
    low, high = result[:, :64].mean(), result[:, -64:].mean()
    assert abs(low - 0.25) < 0.005 and abs(high - 0.75) < 0.005
    assert result.max() - high < 0.01 * 0.5 and low - result.min() < 0.01 * 0.5


@pytest.mark.parametrize("sigma", [2, 4, 8])
def test_a_known_blur_is_measured(face, sigma):
    """A Gaussian of this deviation halves ln 2 / (2 pi^2 sigma^2), squared."""
    found = estimate_reliability(*seen(blurred(face, sigma)), face).blur
    assert found == pytest.approx(math.sqrt(math.log(2) / 2) / math.pi / sigma, rel=0.15)


@pytest.mark.parametrize("sharpness", [0.5, 0.9])
def test_a_network_that_sharpens_does_not_make_the_input_look_blurred(face, sharpness):
    sharpened = np.clip(face + sharpness * (face - blurred(face, 1.5)), 0, 1)
    assert estimate_reliability(*seen(face), sharpened).blur == math.inf
    assert inner_psnr(kept(face, sharpened), face) > 40


def test_a_gray_face_stays_gray(face):
    gray = np.repeat((face @ LUMA)[..., None], 3, axis=2)
    restored = helpers.restorer(helpers.red_weights(256), [])
    options = RestoreOptions(fidelity=1, color="auto", mask_type="feather")
    (result,) = restored.restore_batch([RestoreInput(as_8bit(gray), is_aligned=True)], options)
    assert result.faces[0].restored
    assert (result.image == result.image[..., :1]).all()


@pytest.mark.parametrize("option", [{}, {"fidelity": 1.0}], ids=str)
def test_the_option_reaches_the_face(face, option, compositor_backend):
    """A network that paints one color; the input is sharp."""
    photo = as_8bit(reduced(face, 300))
    painted = helpers.restorer(helpers.constant_weights(256, (0.2, 0.6, 0.4)), [helpers.make_face((150, 150), 130)])
    result = painted.restore(photo, RestoreOptions(color="none", mask_type="feather", **option))
    difference = np.abs(result.image[120:180, 120:180].astype(int) - photo[120:180, 120:180])
    assert bool(difference.mean() < 3) is bool(option)


@pytest.mark.parametrize("side", [1, 3, 8, 17, 24])
def test_the_smallest_faces_have_a_result(face, side):
    restored = warped(face)
    result = kept(reduced(face, side), restored)
    assert np.isfinite(result).all() and result.dtype == np.float32
    assert np.abs(detail(result) - detail(restored)).mean() < 0.02


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_one_color_stays_one_color(value):
    flat = np.full((SIZE, SIZE, 3), value, np.float32)
    assert np.abs(kept(flat, np.full_like(flat, 0.3)) - value).max() < 0.01
