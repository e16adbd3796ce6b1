"""What a programmer passes where one image, several images or crops are expected."""

import io

import helpers
import numpy as np
import pytest
import torch
from PIL import Image

from gpen_core import (
    InputError,
    OptionsError,
    RestoreInput,
    crop_faces,
    paste_faces,
)

SIZE = 256
FACE = helpers.make_face((120, 110), 90)


@pytest.fixture(scope="module")
def red():
    return helpers.restorer(helpers.red_weights(256), [FACE])


@pytest.fixture
def array():
    return np.rint(helpers.texture(SIZE, SIZE, sigma=3) * 255).astype(np.uint8)


@pytest.fixture
def photo(tmp_path, array):
    path = tmp_path / "photo.png"
    Image.fromarray(array).save(path)
    return path


def test_one_image_in_place_of_several_is_refused(red, photo, array):
    """The letters of a path and the rows of an array are no images."""
    for image in (str(photo), photo, photo.read_bytes(), array, Image.fromarray(array), RestoreInput(array)):
        for use in (red.restore_batch, red.detect, lambda one: crop_faces(red, one)):
            with pytest.raises(InputError, match="Expected a list of images, got one"):
                use(image)
    gray = np.stack([array[..., 0]] * 2)
    assert len(red.restore_batch(gray)) == len(red.detect(gray)) == 2


def test_faces_are_selected_and_cropped_in_all_that_is_an_image(red, photo, array):
    expected = crop_faces(red, [RestoreInput(array)])[0].pixels[0]
    for image in (array, photo, str(photo), RestoreInput(photo)):
        assert np.array_equal(crop_faces(red, [image])[0].pixels[0], expected)
        assert [face.box for face in red.select_faces(image)] == [FACE.box]


def test_an_open_file_that_cannot_be_read_is_refused(red, photo, tmp_path):
    with open(photo, "rb") as closed:
        pass
    with pytest.raises(InputError, match=r"The open file cannot be read: .*closed"):
        red(closed)
    with open(tmp_path / "new", "wb") as to_write, pytest.raises(InputError, match="The open file cannot be read"):
        red(to_write)
    with open(photo, encoding="utf-8") as text, pytest.raises(InputError, match="Open it in binary mode"):
        red(text)
    assert red(io.BytesIO(photo.read_bytes())).is_changed


@pytest.mark.parametrize("size", [0, -1, 128.5, "128", float("nan")])
def test_the_size_of_a_crop_is_checked(red, array, size):
    with pytest.raises(OptionsError, match=r"size is .*; expected a whole number of at least 1"):
        crop_faces(red, [array], size=size)


def test_crops_are_floats_from_0_to_1(red, array):
    """An 8-bit crop would be pasted as white."""
    (found,) = crop_faces(red, [array], size=128)
    (crop,) = found.pixels
    edited = 1 - crop
    expected = paste_faces(array, found.crops, [edited]).image_data.pixels
    for same in (torch.from_numpy(edited), edited.astype(np.float64), np.asfortranarray(edited), edited.tolist()):
        assert np.array_equal(paste_faces(array, found.crops, [same]).image_data.pixels, expected)
    for wrong in (edited * 255, edited.astype(object)):
        with pytest.raises(InputError, match=r"Expected .*float"):
            paste_faces(array, found.crops, [wrong])
    with pytest.raises(InputError, match="Expected a square crop"):
        paste_faces(array, found.crops, [edited[:0, :0]])
    for strength in (-1, 2, float("nan"), "1"):
        with pytest.raises(OptionsError, match="strength is"):
            paste_faces(array, found.crops, [edited], strength=strength)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_a_mask_may_have_either_byte_order(red, array, dtype):
    mask = np.full((SIZE, SIZE), 65535, dtype)
    assert np.array_equal(red(array, region_mask=mask).image, red(array).image)
