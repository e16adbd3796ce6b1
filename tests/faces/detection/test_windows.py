"""Where the first level is searched if faces are expected at some places only."""

import numpy as np
import pytest

from gpen_core.faces.detection.pyramid import SCALE_RANGE
from gpen_core.faces.detection.rotation import rotate90
from gpen_core.faces.detection.windows import cut_window, rotate_window, search_windows
from gpen_core.images.image import Region


def windows(*boxes, size=(1920, 1080), side=1920):
    return search_windows(boxes, size, side, SCALE_RANGE)


def test_a_window_has_three_quarters_of_a_face_around_it_and_begins_on_the_networks_grid():
    assert windows((400, 300, 480, 400)) == [Region(320, 224, 540, 475)]  # 340 and 225, down to a multiple of 32
    assert windows((400, 300, 480, 400), size=(3840, 2160)) == [Region(160, 96, 270, 238)]


def test_a_window_ends_with_the_image():
    assert windows((-20, 1040, 60, 1120)) == [Region(0, 960, 120, 1080)]
    assert windows((-300, 300, -220, 400)) == []


def test_windows_that_overlap_are_one():
    assert len(windows((400, 300, 480, 400), (900, 300, 980, 400))) == 2
    assert windows((400, 300, 480, 400), (520, 300, 600, 400)) == [Region(320, 224, 660, 475)]
    joined = windows((100, 100, 180, 180), (500, 100, 580, 180), (200, 100, 460, 200))
    assert joined == [Region(0, 0, 655, 275)]  # the last one touches both


def test_large_faces_need_no_window():
    assert windows((400, 300, 560, 500)) == [] and windows((400, 300, 720, 700), size=(3840, 2160)) == []
    assert len(windows((400, 300, 540, 500))) == 1


def test_many_windows_are_no_gain():
    boxes = [(x, y, x + 60, y + 60) for x in range(0, 1900, 150) for y in range(0, 1000, 150)]
    assert windows(*boxes) is None


@pytest.mark.parametrize("quarters", range(4))
def test_a_window_turns_with_the_image(quarters):
    image = np.random.default_rng(0).random((1, 50, 80, 3), np.float32)
    window = Region(10, 20, 35, 32)
    turned = rotate_window(window, quarters, (80, 50))
    np.testing.assert_array_equal(
        cut_window(rotate90(image, quarters), turned), rotate90(np.ascontiguousarray(cut_window(image, window)), quarters)
    )
