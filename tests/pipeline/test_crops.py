"""Faces taken out and put back."""

import cv2
import helpers
import numpy as np
import pytest

from gpen_core import FaceRestorer, InputError, RestoreInput, RestoreOptions, crop_faces, paste_faces
from gpen_core.tools.demo import images as demo_pictures


@pytest.fixture(scope="module")
def restorer(models):
    return FaceRestorer.load("red-256", "retinaface_mobile0.25", models, device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def collage():
    return demo_pictures.collage()[:500].astype(np.float32) / 255


@pytest.fixture(scope="module")
def cropped(restorer, collage):
    (one,) = crop_faces(restorer, [RestoreInput(collage)], RestoreOptions(mask_type="feather"), 128)
    return one


def test_crops_are_upright_squares(restorer, cropped, collage):
    assert len(cropped.crops) == len(cropped.faces) == 3
    assert all(one.shape == (128, 128, 3) and 0 <= one.min() < one.max() <= 1 for one in cropped.pixels)
    assert [crop.number for crop in cropped.crops] == [0, 1, 2]
    (own,) = crop_faces(restorer, [RestoreInput(collage)], RestoreOptions(mask_type="feather", faces="largest"))
    assert [one.shape for one in own.pixels] == [(256, 256, 3)]
    assert sum(face.reason is not None for face in own.faces) == 2


def test_the_strength_does_not_matter(restorer, cropped, collage):
    (one,) = crop_faces(restorer, [RestoreInput(collage)], RestoreOptions(mask_type="feather", strength=0), 128)
    assert [crop.number for crop in one.crops] == [0, 1, 2]


def eight_bits(pixels):
    return np.floor(pixels * 255) / 255  # as ComfyUI saves them


@pytest.mark.parametrize("kept", [lambda pixels: pixels, eight_bits])
def test_crops_pasted_back_untouched_change_nothing(cropped, collage, kept):
    """128 pixels hold far less than the image has there."""
    pasted = paste_faces(collage, cropped.crops, [kept(one) for one in cropped.pixels])
    assert np.abs(pasted.image_data.to_input_type() - collage).max() < 1 / 255
    assert (pasted.image_data.to_input_type()[pasted.mask == 0] == collage[pasted.mask == 0]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_crops_of_8_and_16_bits_are_scaled_to_their_white(cropped, collage, dtype):
    white = np.iinfo(dtype).max
    dark = [np.rint(one * white / 2).astype(dtype) for one in cropped.pixels]
    expected = paste_faces(collage, cropped.crops, [one.astype(np.float32) / white for one in dark])
    pasted = paste_faces(collage, cropped.crops, dark)
    np.testing.assert_allclose(pasted.image_data.pixels, expected.image_data.pixels, atol=1e-6)
    with pytest.raises(InputError, match="Divide by 255"):
        paste_faces(collage, cropped.crops, [255 * one for one in cropped.pixels])


def test_what_was_changed_is_pasted_and_no_more(cropped, collage):
    edited = [one.copy() for one in cropped.pixels]
    edited[1][50:80, 50:80] = (0, 1, 0)
    pasted = paste_faces(collage, cropped.crops, edited)
    changed = (pasted.image_data.to_input_type() != collage).any(2)
    x0, _, x1, _ = (round(v) for v in cropped.faces[1].box)
    assert changed.sum() > 1000 and not changed[:, : x0 - 50].any() and not changed[:, x1 + 50 :].any()
    assert (np.abs(pasted.image_data.to_input_type() - (0, 1, 0)).max(2) < 0.01).sum() > 1000
    assert not (changed & (pasted.mask == 0)).any()


def test_other_sizes_strength_masks_and_limit(cropped, collage):
    white = [np.ones((side, side, 3), np.float32) for side in (64, 128, 300)]
    whole = paste_faces(collage, cropped.crops, white)
    assert whole.mask.max() == 1 and (whole.image_data.to_input_type()[whole.mask == 1] > 0.9999).all()
    assert paste_faces(collage, cropped.crops, white, strength=0.5).mask.max() == 0.5
    region_mask = np.zeros((10, 10), np.float32)
    assert not paste_faces(collage, cropped.crops, white, region_mask=region_mask).mask.any()
    own = [np.zeros((32, 32), np.float32), None, None]
    assert 0 < (paste_faces(collage, cropped.crops, white, own).mask > 0).sum() < (whole.mask > 0).sum()


@pytest.mark.parametrize("factor", [2, 0.5])
def test_pasting_into_another_size(cropped, collage, factor):
    import cv2

    other = cv2.resize(collage, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    pasted = paste_faces(other, cropped.crops, [np.ones((128, 128, 3), np.float32)] * 3)
    plain = paste_faces(collage, cropped.crops, [np.ones((128, 128, 3), np.float32)] * 3)
    assert pasted.mask.shape == other.shape[:2]
    assert (pasted.mask > 0.5).mean() == pytest.approx((plain.mask > 0.5).mean(), rel=0.02)


def test_what_does_not_fit_is_refused(cropped, collage):
    with pytest.raises(InputError, match="Got 2 crops for 3 faces"):
        paste_faces(collage, cropped.crops, cropped.pixels[:2])
    with pytest.raises(InputError, match="3 crops and 1 mask "):
        paste_faces(collage, cropped.crops, cropped.pixels, [None])
    with pytest.raises(InputError, match=r"square crop \[S, S, 3\], got \[128, 100, 3\]"):
        paste_faces(collage, cropped.crops, [one[:, :100] for one in cropped.pixels])
    with pytest.raises(InputError, match="non-finite"):
        paste_faces(collage, cropped.crops, [one * np.nan for one in cropped.pixels])
    with pytest.raises(InputError, match="aspect ratios differ"):
        paste_faces(collage[:, :700], cropped.crops, cropped.pixels)


def test_an_aligned_face_goes_straight_into_the_network(restorer):
    gray = np.full((300, 300, 3), 0.5, np.float32)  # in which nothing could be found
    result = restorer.restore_batch(
        [RestoreInput(gray, is_aligned=True), RestoreInput(gray)], RestoreOptions(strength=0.5, color="none")
    )
    assert [len(one.faces) for one in result] == [1, 0]
    assert result[0].faces[0].restored and (result[0].mask == 0.5).all()
    assert np.abs(result[0].image - (0.625, 0.5, 0.5)).max() < 1e-6
    with pytest.raises(InputError, match=r"300x200, but an aligned face crop must be square"):
        restorer.restore_batch([RestoreInput(gray[:200], is_aligned=True)])


def test_an_aligned_face_is_not_moved(models):
    identity = FaceRestorer.load("identity-256", "retinaface_mobile0.25", models, device="cpu", dtype="fp32")
    x = np.linspace(0.2, 0.8, 256, dtype=np.float32)
    ramp = np.repeat((x[:, None] + x[None])[..., None] / 2, 3, 2)
    result = identity.restore_batch([RestoreInput(ramp, is_aligned=True)])[0]
    assert np.abs(result.image - ramp).max() < 2 / 255


def test_an_aligned_crop_fits_an_enlarged_copy_exactly(restorer):
    image = helpers.texture(128, 128, sigma=3)
    (one,) = crop_faces(restorer, [RestoreInput(image, is_aligned=True)], RestoreOptions(mask_type="feather"), 512)
    assert one.crops[0].is_aligned
    enlarged = cv2.resize(image, (256, 256), interpolation=cv2.INTER_CUBIC)
    darker = 0.5 * one.pixels[0]
    pasted = paste_faces(enlarged, one.crops, [darker])
    inside = pasted.mask == 1
    assert inside.mean() > 0.5
    np.testing.assert_allclose(pasted.image_data.to_input_type()[inside], 0.5 * enlarged[inside], atol=0.006)
