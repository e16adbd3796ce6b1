"""Which level answers for which face, and which of several answers is the face."""

import numpy as np
import pytest
from helpers import detection_row, project_head

from gpen_core.faces.detection.pyramid import (
    SCALE_RANGE,
    Candidates,
    iou_and_ios,
    level_candidates,
    merge_levels,
    nms,
    pyramid_detectable_sizes,
    pyramid_sizes,
    suppress_nested,
)
from gpen_core.faces.detection.rotation import rotate90, unrotate90


def of(*rows, in_range=None, plausible=None, angle=0.0):
    n = len(rows)
    flags = [np.ones(n, bool) if given is None else np.array(given) for given in (in_range, plausible)]
    return Candidates(np.array(rows).reshape(n, 15), flags[0], np.ones(n, bool), np.full(n, angle), flags[1])


@pytest.mark.parametrize(
    ("size", "detection_size", "sides"),
    [
        ((4000, 3000), 2000, [2000, 667, 222]),
        ((3000, 4000), 2000, [2000, 667, 222]),
        ((2000, 1500), 2000, [2000, 667, 222]),
        ((900, 900), 2000, [900, 300, 100]),
        ((512, 300), 2000, [512, 171]),
        ((300, 200), 2000, [512, 171]),  # enlarged
        ((100, 100), 2000, [200]),
        ((4000, 3000), 200, [200]),
        ((8000, 6000), 8000, [8000, 2667, 889, 296, 99]),
        ((12000, 1000), 2000, [6000, 2000, 667, 222]),  # as many pixels
        ((1000, 12000), 2000, [6000, 2000, 667, 222]),
        ((3000, 3000), 2000, [1732, 577, 192]),
        ((1, 1), 2000, [2]),
        ((1, 1), 64, [2]),
        ((1000000, 1), 2000, [34641, 11547, 3849, 1283, 428, 143]),  # no more for what is narrower than 400:1
    ],
)
def test_levels_go_down_to_where_a_face_that_fills_the_image_is_in_range(size, detection_size, sides):
    assert pyramid_sizes(size, detection_size, SCALE_RANGE) == sides
    smallest, largest = pyramid_detectable_sizes(size, detection_size, SCALE_RANGE)
    longest = max(size)
    assert smallest == 16 * max(1, longest / sides[0]) and largest == longest


def test_the_levels_below_the_first_have_an_eighth_of_its_pixels():
    for longest in (600, 1000, 2000, 5000):
        first, *below = pyramid_sizes((longest, longest), 20000, SCALE_RANGE)
        assert sum(side**2 for side in below) / first**2 < 0.126


def test_every_size_is_within_the_best_of_some_level():
    """From the smallest that is exact on the first level to the whole image."""
    low, high = SCALE_RANGE.reliable
    for longest in (600, 1500, 2000, 7000):
        sides = pyramid_sizes((longest, 3 * longest // 4), longest, SCALE_RANGE)
        for face in np.linspace(low, longest, 500):
            shown = [face * side / longest for side in sides]
            assert any(low <= size <= high for size in shown) or shown[-1] <= SCALE_RANGE.max_reliable


def test_a_level_leaves_others_what_is_too_large_and_too_small_for_it():
    rows = np.array([detection_row(0, 0, size) for size in (20, 50, 100, 250, 290, 350)])
    widths = {}
    for name, ends in {
        "first": (True, False),
        "middle": (False, False),
        "last": (False, True),
        "only": (True, True),
    }.items():
        found = level_candidates(rows, (1.0, 1.0), SCALE_RANGE, *ends)
        widths[name] = [round(w) for w in found.rows[:, 2] - found.rows[:, 0]]
    assert widths == {
        "first": [20, 50, 100, 250, 290],
        "middle": [50, 100, 250, 290],
        "last": [50, 100, 250, 290, 350],
        "only": [20, 50, 100, 250, 290, 350],
    }
    first = level_candidates(rows, (1.0, 1.0), SCALE_RANGE, True, False)
    assert first.is_in_range.tolist() == [True, True, True, False, False]
    assert first.is_exact.tolist() == [False, False, True, False, False]


def test_rows_of_no_numbers_are_not_believed():
    spoiled = np.array([detection_row(10, 10, 100), detection_row(10, 10, 100), detection_row(10, 10, 100)])
    spoiled[0, 2], spoiled[1, 7] = np.inf, np.nan
    assert len(level_candidates(spoiled, (1.0, 1.0), SCALE_RANGE, True, True)) == 1


def test_rows_come_out_in_pixels_of_the_image_whose_middles_are_whole():
    found = level_candidates(np.array([detection_row(0, 0, 100)]), (3.0, 2.0), SCALE_RANGE, True, True)
    expected = (detection_row(0, 0, 100) + 0.5) * [3, 2, 3, 2, 1, *[3, 2] * 5] - 0.5
    expected[4] = 0.95
    np.testing.assert_allclose(found.rows[0], expected)


def test_of_two_answers_a_head_comes_first_then_range_then_score():
    better, worse = detection_row(100, 100, 90, score=0.6), detection_row(103, 100, 90, score=0.99)
    assert merge_levels(of(worse, better, plausible=[False, True])).rows[0, 4] == 0.6
    assert merge_levels(of(worse, better, in_range=[False, True])).rows[0, 4] == 0.6
    assert merge_levels(of(worse, better, in_range=[False, True], plausible=[True, False])).rows[0, 4] == 0.99
    kept = merge_levels(of(better, worse)).rows
    assert len(kept) == 1 and kept[0, 4] == 0.99
    assert len(merge_levels(of(better, detection_row(300, 100, 90)))) == 2
    assert len(merge_levels(of())) == 0


def test_a_part_goes_whatever_its_score():
    face = detection_row(100, 100, 300, score=0.91)
    for part in (detection_row(120, 150, 120, score=0.999), detection_row(90, 300, 150, score=0.999)):
        np.testing.assert_array_equal(suppress_nested(np.array([part, face])), [face])


def test_heads_that_overlap_are_two():
    """A child before its mother's chin; neighbors in a crowd."""
    pairs = [
        (detection_row(100, 100, 200), detection_row(210, 290, 120)),
        (detection_row(100, 100, 100), detection_row(160, 110, 100)),
    ]
    for pair in pairs:
        assert 0 < iou_and_ios(pair[0], np.array([pair[1]]))[1][0] < 0.6
        assert len(suppress_nested(np.array(pair))) == 2


def test_a_group_that_looked_like_a_face_goes():
    group = detection_row(100, 100, 400, score=0.99)
    faces = [detection_row(110, 120, 80), detection_row(250, 130, 90), detection_row(300, 380, 85)]
    kept = suppress_nested(np.array([group, *faces]))
    np.testing.assert_array_equal(kept, faces)


def test_what_fits_no_head_takes_no_face_with_it():
    impossible = detection_row(100, 100, 300, score=0.99, landmarks=project_head(0, 0, scale=20, shift=(250, 250)) * [1, 0])
    face = detection_row(150, 150, 120, score=0.95)
    assert any(np.array_equal(face, one) for one in suppress_nested(np.array([impossible, face])))


def test_one_row_of_each_face_is_left():
    rows = np.array(
        [detection_row(100, 100, 90, score=s) for s in (0.92, 0.99, 0.95)] + [detection_row(400, 100, 90, score=0.91)]
    )
    assert nms(rows)[:, 4].tolist() == [0.99, 0.91]
    assert len(nms(rows[:0])) == 0


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_turning_back_is_exact(quarters):
    """A pixel that is marked in the image is found in the turned one and goes back to where it was."""
    height, width = 7, 11
    picture = np.zeros((1, height, width, 3), np.float32)
    marks = [(2, 1), (9, 3), (0, 6), (10, 0), (5, 5)]
    for n, (x, y) in enumerate(marks):
        picture[0, y, x] = n + 1
    seen = rotate90(picture, quarters)[0, ..., 0]
    points = np.array([np.argwhere(seen == n + 1)[0][::-1] for n in range(5)], np.float64)
    low, high = points[:2].min(0), points[:2].max(0)
    found = of(np.array([*low, *high, 0.9, *points.ravel()]))
    back = unrotate90(found, quarters, width, height)
    np.testing.assert_array_equal(back.rows[0, 5:].reshape(5, 2), marks)
    np.testing.assert_array_equal(back.rows[0, :4], [2, 1, 9, 3])
    assert back.angle[0] == 90 * quarters
