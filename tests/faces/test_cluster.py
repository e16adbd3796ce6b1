"""Faces are grouped by person."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpen_core.faces.cluster import cluster_faces, cluster_photos

THRESHOLD = 0.5


def at(*degrees):
    """Vectors [n, 2] of length 1 in these directions."""
    radians = np.deg2rad(degrees)
    return list(np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32))


def cluster(embeddings, apart=(), weights=None, threshold=THRESHOLD):
    cannot_link = np.zeros((len(embeddings),) * 2, bool)
    for a, b in apart:
        cannot_link[a, b] = cannot_link[b, a] = True
    return cluster_faces(embeddings, weights or [1.0] * len(embeddings), cannot_link, threshold)


@pytest.mark.parametrize(
    ("degrees", "apart", "people"),
    [
        ((0, 90, 5, 95), (), [0, 1, 0, 1]),
        ((0, 3), [(0, 1)], [0, 1]),
        ((0, 3, 1), [(0, 1)], [0, 1, 0]),  # the third face is one of the two that share an image: the more similar one
        ((0, 6, 1, 5), [(0, 1), (2, 3)], [0, 1, 0, 1]),
        ((0, 50, 100), (), [0, 0, 2]),  # on average not similar, although each is similar to the next
        ((7,), (), [0]),
        ((), (), []),
    ],
)
def test_similar_faces_are_one_person_unless_they_share_an_image(degrees, apart, people):
    assert cluster(at(*degrees), apart) == people


def test_a_face_without_weight_stays_alone():
    assert cluster(at(0, 0, 0), weights=[1, 0, 2]) == [0, 1, 0]
    assert cluster(at(0, 0), weights=[0, 0]) == [0, 1]


def test_a_face_counts_by_its_weight():
    """The third is 61 degrees from the first and 59 from the second."""
    faces = at(0, 2, 61)
    assert cluster(faces, weights=[9, 1, 1]) == [0, 0, 2] and cluster(faces, weights=[1, 9, 1]) == [0, 0, 0]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 24))
def test_groups_are_those_of_a_plain_search(seed, count):
    rng = np.random.default_rng(seed)
    faces = rng.normal(size=(count, 3))
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    weights = rng.uniform(0.1, 1, count)
    apart = np.triu(rng.random((count, count)) < 0.2, 1)
    apart |= apart.T
    groups = [[n] for n in range(count)]
    while True:
        pairs = []
        for i, first in enumerate(groups):
            for j in range(i + 1, len(groups)):
                chosen = np.ix_(first, groups[j])
                if not apart[chosen].any():
                    pairs.append((np.average((faces @ faces.T)[chosen], weights=np.outer(weights, weights)[chosen]), i, j))
        score, i, j = max(pairs, default=(-1, 0, 0))
        if score < THRESHOLD:
            break
        groups[i] += groups.pop(j)
    expected = [min(next(group for group in groups if n in group)) for n in range(count)]
    assert cluster_faces(list(faces), list(weights), apart, THRESHOLD) == expected


def test_two_faces_of_one_photo_are_two_people():
    assert cluster_photos(at(0, 3, 1, 90), [1.0] * 4, [0, 0, 1, 1], THRESHOLD) == ([0, 1, 0, 3], 0)
    assert cluster_photos(at(0, 2, 1), [1.0] * 3, [0, 1, 2], THRESHOLD) == ([0, 0, 0], 0)
    assert cluster_photos([], [], [], THRESHOLD) == ([], 0)


def test_of_too_many_faces_that_are_alike_the_best_are_compared():
    faces, photos = at(0, 1, 2, 3, 180, 181), range(6)
    found = cluster_photos(faces, [4, 0.5, 3, 2, 1, 1], photos, THRESHOLD, max_alike=2)
    assert found == ([0, 1, 0, 3, 4, 4], 2)


def test_many_faces_are_joined_as_few_are():
    """Each person has faces at the beginning, in the middle and at the end of a long list."""
    people, rng = 500, np.random.default_rng(0)
    centers = rng.normal(size=(people, 128))
    faces = (np.tile(centers, (3, 1)) + rng.normal(size=(3 * people, 128)) * 0.5).astype(np.float32)
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    found, _ = cluster_photos(list(faces), [1.0] * len(faces), range(len(faces)), 0.6)
    assert found == list(range(people)) * 3
