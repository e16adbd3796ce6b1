"""Numbers that can be read: on small and large faces, on bright and dark ground, with every OpenCV and Pillow."""

import helpers
import numpy as np
import pytest
from PIL import ImageFont

from gpen_core.faces import draw
from gpen_core.faces.draw import LEFT_ALONE, TAKEN, numbered
from gpen_core.faces.face import Face


@pytest.mark.parametrize("ground", [0, 128, 255])
@pytest.mark.parametrize(("side", "shape"), [(40, (400, 600)), (40, (3000, 4000)), (1000, (1500, 1600))])
def test_a_number_is_large_enough_and_stands_out(ground, side, shape):
    picture = np.full((*shape, 3), ground, np.uint8)
    face = helpers.face_at((shape[1] / 2, shape[0] / 2 + 40), side)
    drawn = numbered(picture, [face])
    assert np.all(picture == ground)  # a copy was drawn on
    x0, y0 = round(face.box[0]), round(face.box[1])
    height = draw._height(drawn, face)
    assert height >= max(11, 0.01 * max(shape)) and height <= max(11, 0.045 * max(shape))
    plate = drawn[y0 - height : y0, x0 : x0 + height // 2]
    white, blue = (plate > 200).all(2).mean(), (np.abs(plate.astype(int) - TAKEN) < 60).all(2).mean()
    assert white > 0.1 and blue > 0.2


def test_faces_that_are_left_alone_have_another_colour():
    picture = np.full((300, 600, 3), 200, np.uint8)
    taken, left = helpers.face_at((150, 150), 100), helpers.face_at((450, 150), 100)
    left = Face(left.box, left.score, left.landmarks, reason="smaller than the minimum")
    drawn = numbered(picture, [taken, left])
    assert (drawn[:, :300] == TAKEN).all(2).any() and not (drawn[:, :300] == LEFT_ALONE).all(2).any()
    assert (drawn[:, 300:] == LEFT_ALONE).all(2).any() and not (drawn[:, 300:] == TAKEN).all(2).any()


@pytest.mark.parametrize(
    "box", [(-50, -50, 20, 20), (590, 5, 700, 120), (0, 0, 600, 300), (np.nan,) * 4, (0, 0, np.inf, 9), (700, 400, 800, 500)]
)
def test_boxes_beyond_the_picture_are_no_trouble(box):
    face = Face(box, 0.9, np.full((5, 2), np.nan))
    assert numbered(np.zeros((300, 600, 3), np.uint8), [face] * 12).shape == (300, 600, 3)


def test_numbers_are_drawn_with_pillow_before_10_1_too(monkeypatch):
    old = ImageFont.load_default_imagefont() if hasattr(ImageFont, "load_default_imagefont") else ImageFont.load_default()

    def load_default():
        return old

    monkeypatch.setattr(ImageFont, "load_default", load_default)
    draw._drawn_large.cache_clear()
    try:
        letters = draw._letters("10", 20)
    finally:
        draw._drawn_large.cache_clear()
    assert letters.shape[0] == 20 and 10 <= letters.shape[1] <= 40 and letters.max() > 0.8


def test_each_number_looks_its_own():
    drawn = [draw._letters(str(n), 24) for n in range(10)]
    assert all(a.shape[1] <= 24 and 0.1 < a.mean() < 0.8 for a in drawn)
    widest = max(a.shape[1] for a in drawn)
    padded = [np.pad(a, ((0, 0), (0, widest - a.shape[1]))) for a in drawn]
    assert all(np.abs(padded[a] - padded[b]).mean() > 0.03 for a in range(10) for b in range(a))
