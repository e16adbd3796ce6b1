"""Which faces are taken, and how they are numbered."""

import helpers
import numpy as np
import pytest

from gpen_core import RestoreOptions
from gpen_core.faces.select import missing_numbers, select_faces, size_reason, sort_faces

SIZE = (1000, 600)
# Two rows of people; names by place.
PEOPLE = {
    "top left": helpers.make_face((150, 130), 100),
    "top middle": helpers.make_face((500, 160), 80),
    "top right": helpers.make_face((850, 120), 40),
    "low left": helpers.make_face((300, 420), 60),
    "low right": helpers.make_face((620, 400), 120),
}


def names(faces):
    return [name for face in faces for name, person in PEOPLE.items() if person.box == face.box]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("reading", ["top left", "top middle", "top right", "low left", "low right"]),
        ("left-right", ["top left", "low left", "top middle", "low right", "top right"]),
        ("large-small", ["low right", "top left", "top middle", "low left", "top right"]),
    ],
)
def test_orders(order, expected):
    shuffled = [list(PEOPLE.values())[n] for n in np.random.default_rng(2).permutation(5)]
    assert names(sort_faces(shuffled, order)) == expected


@pytest.mark.parametrize("which", ["all", "largest", "center", (0, 4)])
@pytest.mark.parametrize("min_face_size", [0, 50])
@pytest.mark.parametrize("max_faces", [None, 1, 2])
def test_every_face_stays_in_its_place_and_the_rest_has_a_reason(which, min_face_size, max_faces):
    faces = sort_faces(list(PEOPLE.values()), "reading")
    chosen = select_faces(faces, SIZE, RestoreOptions(faces=which, min_face_size=min_face_size, max_faces=max_faces))
    assert names(chosen) == names(faces)
    taken = [face for face in chosen if face.reason is None]
    assert (
        len(taken) == min(1 if which in ("largest", "center") else 5 if which == "all" else 2, max_faces or 5)
        or min_face_size
    )
    assert all(face.shorter_side >= min_face_size for face in taken)


def taken(**options):
    faces = select_faces(sort_faces(list(PEOPLE.values()), "reading"), SIZE, RestoreOptions(**options))
    return names(face for face in faces if face.reason is None)


def test_largest_is_by_area():
    assert taken(faces="largest") == ["low right"]


def test_center_is_nearest_to_the_images_center():
    assert taken(faces="center") == ["top middle"]


def test_numbers_count_in_the_order_given():
    assert taken(faces=(1, 3)) == ["top middle", "low left"]


def test_numbers_beyond_the_last_face_take_nothing():
    assert taken(faces=(7,)) == []


@pytest.mark.parametrize(
    ("selection", "count", "note"),
    [
        ((1, 7, 7), 3, ["there is no face 7: faces are 0 to 2"]),
        ((1,), 1, ["there is no face 1: the only face is 0"]),
        ((0, 2), 0, ["there is no face 0, 2: no face was found"]),
        (tuple(range(12)), 2, ["there is no face 2, 3, 4, 5, 6, ...: faces are 0 to 1"]),
        ((0, 2), 3, []),
        ("largest", 0, []),
    ],
)
def test_numbers_that_no_face_has_are_named(selection, count, note):
    assert missing_numbers(selection, count) == note


def test_minimum_size_is_the_shorter_side():
    assert taken(min_face_size=61) == ["top left", "top middle", "low right"]


def test_maximum_size_is_the_shorter_side_too():
    assert taken(max_face_size=80) == ["top middle", "top right", "low left"]
    assert taken(faces="largest", max_face_size=99) == ["top middle"]
    assert taken(min_face_size=50, max_face_size=100) == ["top left", "top middle", "low left"]
    reasons = {face.reason for face in select_faces(list(PEOPLE.values()), SIZE, RestoreOptions(max_face_size=100))}
    assert reasons == {None, "larger than the maximum: 120 px, maximum 100 px"}


@pytest.mark.parametrize(
    ("side", "option", "reason"),
    [
        (59.6, {"min_face_size": 60}, "smaller than the minimum: 59 px, minimum 60 px"),
        (60.4, {"max_face_size": 60}, "larger than the maximum: 61 px, maximum 60 px"),
    ],
)
def test_a_size_is_not_rounded_to_the_limit_that_it_misses(side, option, reason):
    assert size_reason(side, RestoreOptions(**option)) == reason


def test_largest_is_sought_among_those_large_enough():
    assert taken(faces="largest", min_face_size=500) == []


def test_at_most_so_many_takes_the_largest():
    assert taken(max_faces=2) == ["top left", "low right"]
    assert len(taken(max_faces=0)) == 5


def test_no_faces():
    assert select_faces([], SIZE, RestoreOptions(faces="center")) == [] and sort_faces([], "reading") == []
