"""Groups faces by person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .identity import Embedding


def cluster_faces(
    embeddings: Sequence[Embedding], weights: Sequence[float], cannot_link: NDArray[np.bool_], threshold: float
) -> list[int]:
    """Return for each of n faces the number of the first face of the same person.

    Agglomerative clustering with average linkage (UPGMA; Sokal and Michener, 1958): the two most similar groups are joined
    until no two are as similar as `threshold`. The similarity of two groups is the mean cosine of their pairs of faces,
    weighted by the product of the weights. `embeddings` are of length 1. `weights` are at least 0; a face with the weight 0
    stays alone. `cannot_link` [n, n] is symmetric and true for faces that are two people; no group has two of them."""
    weight = np.array(weights, np.float64)
    person = list(range(len(weight)))
    usable = np.flatnonzero(weight > 0)
    if len(usable) < 2:
        return person
    weight = weight[usable]
    sums = np.stack([embeddings[int(n)] for n in usable]).astype(np.float64) * weight[:, None]
    forbidden = cannot_link[np.ix_(usable, usable)] | np.eye(len(usable), dtype=bool)
    groups = [[int(n)] for n in usable]
    scores = np.where(forbidden, -np.inf, sums @ sums.T / np.outer(weight, weight))
    best = scores.argmax(1)
    while True:
        first = int(scores[np.arange(len(best)), best].argmax())
        second = int(best[first])
        if not scores[first, second] >= threshold:
            break
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
    for group in groups:
        for n in group:
            person[n] = min(group)
    return person


def _set(scores: NDArray[Any], n: int, values: NDArray[Any]) -> None:
    scores[n] = scores[:, n] = values
