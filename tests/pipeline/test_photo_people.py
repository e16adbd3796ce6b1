"""The faces of many images are grouped by person."""

from dataclasses import replace

import helpers
import numpy as np
import people
from people import ALONE, ANNA, BOB, CARA, GROUP, ONNX, PAIR, THREE, TWO

from gpen_core.faces.identity import SFace
from gpen_core.images import codecs
from gpen_core.images.image import from_array, to_rgb8
from gpen_core.pipeline.photo_people import MAX_REFERENCES, FaceGrouper, choose_references, encode_thumbnail


def collected(*photos, embedder=True):
    """The people of photos, each a list of persons."""
    faces = FaceGrouper(SFace(ONNX) if embedder else None, "gpen")
    for n, shown in enumerate(photos):
        found = {1: ALONE, 2: TWO, 3: THREE}[len(shown)]
        size = {1: people.PORTRAIT, 2: PAIR, 3: GROUP}[len(shown)]
        faces.add(n, from_array(people.photo(found, shown, size)), found)
    return faces.group()


def places(found):
    return [[(face.photo, face.number) for face in person.faces] for person in found.people]


def test_people_are_found_over_all_photos_and_the_most_frequent_comes_first():
    found = collected([CARA], [ANNA, BOB], [BOB], [ANNA, CARA, BOB])
    assert places(found) == [[(1, 1), (2, 0), (3, 2)], [(0, 0), (3, 1)], [(1, 0), (3, 0)]]
    assert [person.number for person in found.people] == [0, 1, 2] and found.is_joined and found.notes == ()


def test_two_faces_of_a_photo_are_two_people_however_alike():
    assert places(collected([ANNA, ANNA])) == [[(0, 0)], [(0, 1)]]


def test_without_an_embedder_each_face_is_a_person():
    found = collected([ANNA], [ANNA, BOB], embedder=False)
    assert places(found) == [[(0, 0)], [(1, 0)], [(1, 1)]] and not found.is_joined


def test_small_and_skipped_faces_are_not_compared():
    faces = FaceGrouper(SFace(ONNX), "gpen")
    small = [helpers.make_face((100, 100), 20)]
    for n, found in enumerate([ALONE, ALONE, small, small, [replace(ALONE[0], reason="no face")]]):
        faces.add(n, from_array(people.photo(found, [ANNA], people.PORTRAIT)), found)
    found = faces.group()
    assert places(found) == [[(0, 0), (1, 0)], [(2, 0)], [(3, 0)]]
    assert found.notes == ("2 faces too small or too blurry to compare: each has a number of its own",)


def test_the_best_faces_are_whole_and_large():
    faces = FaceGrouper(SFace(ONNX), "gpen")
    for n, (center, side) in enumerate([((100, 100), 60), ((100, 100), 90), ((40, 100), 100)]):
        found = [helpers.make_face(center, side)]
        faces.add(n, from_array(people.photo(found, [ANNA], people.PORTRAIT)), found)
    (person,) = faces.group().people
    assert [face.photo for face in person.best_faces] == [1, 0, 2]


def gray(value):
    return encode_thumbnail(np.full((160, 160, 3), value, np.uint8))


def test_a_reference_shows_one_face_that_is_found():
    """Black thumbnails show no face, white ones a neighbor, too, unless they are trimmed."""
    widths = []

    def detect(image):
        widths.append(image.width)
        level = to_rgb8(image).mean()
        count = 0 if level < 50 else 2 if level > 200 and image.width > 120 else 1
        return [helpers.make_face((20 + 60 * n, 50), 40) for n in range(count)]

    assert choose_references([gray(0), gray(128)], detect) == [gray(128)]
    assert choose_references([gray(0)], detect) == []
    widths.clear()
    (trimmed,) = choose_references([gray(255)], detect)
    assert widths == [160, 128, 104] and codecs.decode(trimmed).image.size == (104, 104)
    assert len(choose_references([gray(128)] * 9, detect)) == MAX_REFERENCES
