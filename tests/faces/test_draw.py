"""Numbers that can be read: on small and large faces, on bright and dark ground, with every OpenCV and Pillow."""

import helpers
import numpy as np
import pytest
from PIL import Image, ImageFont

from gpen_core import InputError
from gpen_core.faces import draw
from gpen_core.faces.draw import SELECTED_COLOR, SKIPPED_COLOR, draw_faces
from gpen_core.faces.face import Face


def plate_of(drawn, face):
    """The number's plate above the box, found by its color."""
    left, bottom = round(face.box[0]), round(face.box[1])
    is_plate = (drawn == SELECTED_COLOR).all(2)
    top = bottom - np.argmin(is_plate[bottom - 1 :: -1, left])
    right = left + np.argmin(is_plate[top, left:])
    return drawn[top:bottom, left:right]


def letters_of(drawn, face):
    """[height, W] in [0, 1]: how white each pixel of the number is."""
    plate = plate_of(drawn, face)
    rows, columns = (np.flatnonzero((plate != SELECTED_COLOR).any((axis, 2))) for axis in (1, 0))
    white = plate[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, 0] / 255
    assert SELECTED_COLOR[0] == 0
    return white


@pytest.mark.parametrize("ground", [0, 128, 255])
@pytest.mark.parametrize(("side", "shape"), [(40, (400, 600)), (40, (3000, 4000)), (1000, (1500, 1600))])
def test_a_number_is_large_enough_and_stands_out(ground, side, shape):
    picture = np.full((*shape, 3), ground, np.uint8)
    face = helpers.make_face((shape[1] / 2, shape[0] / 2 + 40), side)
    drawn = draw_faces(picture, [face])
    assert np.all(picture == ground)  # a copy was drawn on
    height = len(letters_of(drawn, face))
    assert height >= max(11, 0.01 * max(shape)) and height <= max(11, 0.045 * max(shape))
    plate = plate_of(drawn, face)
    white, blue = (plate > 200).all(2).mean(), (np.abs(plate.astype(int) - SELECTED_COLOR) < 60).all(2).mean()
    assert white > 0.1 and blue > 0.2


def test_faces_that_are_left_alone_have_another_color():
    picture = np.full((300, 600, 3), 200, np.uint8)
    taken, left = helpers.make_face((150, 150), 100), helpers.make_face((450, 150), 100)
    left = Face(left.box, left.score, left.landmarks, reason="smaller than the minimum")
    drawn = draw_faces(picture, [taken, left])
    assert (drawn[:, :300] == SELECTED_COLOR).all(2).any() and not (drawn[:, :300] == SKIPPED_COLOR).all(2).any()
    assert (drawn[:, 300:] == SKIPPED_COLOR).all(2).any() and not (drawn[:, 300:] == SELECTED_COLOR).all(2).any()


@pytest.mark.parametrize(
    "box", [(-50, -50, 20, 20), (590, 5, 700, 120), (0, 0, 600, 300), (np.nan,) * 4, (0, 0, np.inf, 9), (700, 400, 800, 500)]
)
def test_boxes_beyond_the_image_are_no_trouble(box):
    face = Face(box, 0.9, np.full((5, 2), np.nan))
    assert draw_faces(np.zeros((300, 600, 3), np.uint8), [face] * 12).shape == (300, 600, 3)


def old_font():
    return ImageFont.load_default_imagefont() if hasattr(ImageFont, "load_default_imagefont") else ImageFont.load_default()


def before_10_1(font):
    return lambda: font


def without_freetype(font):
    def load_default(size=None):
        if size is not None:
            raise ImportError("The _imagingft C module is not installed")
        return font

    return load_default


@pytest.mark.parametrize("kind", [before_10_1, without_freetype])
def test_numbers_are_drawn_with_an_old_or_a_bare_pillow_too(monkeypatch, kind):
    monkeypatch.setattr(ImageFont, "load_default", kind(old_font()))
    picture, faces = np.zeros((400, 2000, 3), np.uint8), [helpers.make_face((150 * n + 100, 200), 60) for n in range(11)]
    fresh = helpers.fresh_module(draw)  # it keeps the numbers that it has drawn
    letters = letters_of(fresh.draw_faces(picture, faces), faces[10])
    assert letters.shape[0] == 20 and 10 <= letters.shape[1] <= 40 and letters.max() > 0.8


def test_each_number_looks_its_own():
    faces = [helpers.make_face((200 * n + 200, 300), 60) for n in range(10)]
    picture = draw_faces(np.zeros((600, 2400, 3), np.uint8), faces)
    drawn = [letters_of(picture, face) for face in faces]
    assert {len(one) for one in drawn} == {24}
    assert all(a.shape[1] <= 24 and 0.1 < a.mean() < 0.8 for a in drawn)
    widest = max(a.shape[1] for a in drawn)
    padded = [np.pad(a, ((0, 0), (0, widest - a.shape[1]))) for a in drawn]
    assert all(np.abs(padded[a] - padded[b]).mean() > 0.03 for a in range(10) for b in range(a))


def test_faces_are_drawn_on_all_that_is_an_image_in_memory():
    """The drawing is on a copy in 8-bit RGB."""
    array = np.rint(helpers.texture(200, 240) * 255).astype(np.uint8)
    face = helpers.make_face((120, 110), 90)
    expected = draw_faces(array, [face])
    assert expected.shape == array.shape and not np.array_equal(expected, array)
    before = array.copy()
    alpha = array[..., :1]
    for same in (Image.fromarray(array), np.dstack([array, alpha]), array.astype(np.uint16) * 257, array / 255):
        assert np.array_equal(draw_faces(same, [face]), expected)
    assert draw_faces(array[..., 0], [face]).shape == array.shape
    assert np.array_equal(array, before)
    with pytest.raises(InputError):
        draw_faces([array], [face])
