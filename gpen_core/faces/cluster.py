"""Groups faces by person."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .identity import Embedding

CannotLink = Callable[[NDArray[np.intp]], NDArray[np.bool_]]
"""Returns for m faces, by their numbers, the symmetric matrix [m, m] that is true for faces that are two people."""

BLOCK_ROWS = 512  # faces whose similarities to all others are in memory at a time
ROUNDING = 1e-5  # of a cosine in float32
MAX_ALIKE = 10_000
"""Faces in one group of similar faces that are compared with each other: their similarities take 1 GB and a few minutes."""


def cluster_faces(
    embeddings: Sequence[Embedding], weights: Sequence[float], cannot_link: NDArray[np.bool_], threshold: float
) -> list[int]:
    """Return for each of n faces the number of the first face of the same person.

    Agglomerative clustering with average linkage (UPGMA; Sokal and Michener, 1958): the two most similar groups are joined
    until no two are as similar as `threshold`. The similarity of two groups is the mean cosine of their pairs of faces,
    weighted by the product of the weights. `embeddings` are of length 1. `weights` are at least 0; a face with the weight 0
    stays alone. `cannot_link` [n, n] is symmetric and true for faces that are two people; no group has two of them."""
    return _cluster(embeddings, weights, lambda chosen: cannot_link[np.ix_(chosen, chosen)], threshold, None)[0]


def cluster_photos(
    embeddings: Sequence[Embedding],
    weights: Sequence[float],
    photos: Sequence[int],
    threshold: float,
    max_alike: int = MAX_ALIKE,
) -> tuple[list[int], int]:
    """Group the faces of photos like `cluster_faces`. Two faces with the same number in `photos` are two people.

    If more than `max_alike` faces are alike, those with the smallest weights among them stay alone. The number of these is
    returned, too."""
    numbers = np.array(photos, np.int64)

    def share_photo(chosen: NDArray[np.intp]) -> NDArray[np.bool_]:
        return np.equal.outer(numbers[chosen], numbers[chosen])

    return _cluster(embeddings, weights, share_photo, threshold, max_alike)


def _cluster(
    embeddings: Sequence[Embedding],
    weights: Sequence[float],
    cannot_link: CannotLink,
    threshold: float,
    max_alike: int | None,
) -> tuple[list[int], int]:
    weight = np.array(weights, np.float64)
    person, left_out = list(range(len(weight))), 0
    usable = np.flatnonzero(weight > 0)
    if len(usable) < 2:
        return person, left_out
    vectors = np.stack([embeddings[int(n)] for n in usable])
    for alike in _similar_groups(vectors, threshold):
        if max_alike is not None and len(alike) > max_alike:
            left_out += len(alike) - max_alike
            alike = np.sort(alike[np.argsort(-weight[usable[alike]], kind="stable")[:max_alike]])
        chosen = usable[alike]
        for group in filter(None, _join_groups(vectors[alike], weight[chosen], cannot_link(chosen), threshold)):
            for n in group:
                person[chosen[n]] = int(chosen[min(group)])
    return person, left_out


def _similar_groups(vectors: NDArray[np.float32], threshold: float) -> Iterator[NDArray[np.intp]]:
    """Yield the connected groups of at least two faces [n, D] in which each is as similar to some other as `threshold`.

    Two groups whose mean similarity reaches the threshold have a pair that does. So people never span two of these groups,
    and each can be clustered alone."""
    label = np.arange(len(vectors))
    for start in range(0, len(vectors), BLOCK_ROWS):
        is_similar = vectors[start : start + BLOCK_ROWS] @ vectors[start:].T >= threshold - ROUNDING
        is_similar[np.arange(len(is_similar)), np.arange(len(is_similar))] = True  # itself, also above a threshold of 1
        for row in np.flatnonzero(is_similar.sum(1) > 1):
            found = np.unique(label[start:][is_similar[row]])
            if len(found) > 1:
                label[np.isin(label, found[1:])] = found[0]
    order = np.argsort(label, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    return (group for group in groups if len(group) > 1)


def _join_groups(
    vectors: NDArray[Any], weight: NDArray[np.float64], cannot_link: NDArray[np.bool_], threshold: float
) -> list[list[int]]:
    """Join the most similar groups of faces [n, D] until no two are as similar as `threshold`. See `cluster_faces`."""
    weight = weight.copy()
    sums = vectors.astype(np.float64) * weight[:, None]
    forbidden = cannot_link | np.eye(len(weight), dtype=bool)
    groups = [[n] for n in range(len(weight))]
    scores = sums @ sums.T
    scores /= weight
    scores /= weight[:, None]
    scores[forbidden] = -np.inf
    best = scores.argmax(1)
    while True:
        first = int(scores[np.arange(len(best)), best].argmax())
        second = int(best[first])
        if not scores[first, second] >= threshold:
            return groups
        first, second = min(first, second), max(first, second)
        groups[first] += groups[second]
        groups[second] = []
        sums[first] += sums[second]
        weight[first] += weight[second]
        forbidden[first] |= forbidden[second]
        forbidden[:, first] |= forbidden[:, second]
        _set(scores, first, np.where(forbidden[first], -np.inf, sums @ sums[first] / (weight * weight[first])))
        forbidden[second] = forbidden[:, second] = True
        _set(scores, second, np.full(len(best), -np.inf))
        stale = (best == first) | (best == second)
        stale[first] = True
        improved = scores[:, first] > scores[np.arange(len(best)), best]
        best[improved] = first
        best[stale] = scores[stale].argmax(1)


def _set(scores: NDArray[Any], n: int, values: NDArray[Any]) -> None:
    scores[n] = scores[:, n] = values
