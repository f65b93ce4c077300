"""Partitions: pieces of speech divided into each number of clusters, in more than one way. Pure.

No single method is right for all recordings. Average linkage (a tree of merges) finds a speaker who says little beside
others who say much, but where pieces are noisy it puts nearly all of them into one cluster. k-means on the unit sphere
(Dhillon and Modha, "Concept decompositions for large sparse text data using clustering", 2001) keeps clusters compact,
but from a random start it misses small clusters when there are many. So both are tried: the tree's cut as a start for
k-means, and k-means from starts of its own. The caller compares them.

N is the number of pieces, D the size of an embedding, K a number of clusters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
from sklearn.cluster import AgglomerativeClustering

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

_MOST_ROUNDS = 50
"""Of k-means from one start; it usually stops changing after ten."""

_STARTS = 8
"""Starts of k-means for each number; the one whose clusters are most compact is kept."""


def partitions(
    embeddings: Floats, seconds: npt.NDArray[np.float64], *, least: int, most: int, least_seconds: float
) -> Mapping[int, tuple[Labels, ...]]:
    """The partitions into each number of clusters from ``least`` to ``most`` that has any, and always into ``least``.

    ``embeddings`` are of unit length, (N, D), and ``seconds`` are the lengths of the pieces, (N,). ``least`` and
    ``most`` are at most N. Each cluster has ``least_seconds`` of speech; only where there is no such partition into
    ``least`` clusters, they may have less. Labels are from 0: (N,).
    """
    tree = _Tree(embeddings, seconds)
    cuts = dict(tree.cuts(least_seconds, most))
    found = {
        count: tuple(_alternatives(embeddings, seconds, count, cuts.get(count), least_seconds))
        for count in range(least, most + 1)
    }
    if not found[least]:
        found[least] = tuple(labels for count, labels in tree.cuts(0.0, most) if count == least)
    return {count: alternatives for count, alternatives in found.items() if alternatives}


def centroids(embeddings: Floats, labels: Labels) -> Floats:
    """Mean embedding of each cluster, of unit length: (K, D). A cluster without members has zeros."""
    sums = np.eye(int(labels.max()) + 1, dtype=np.float32)[labels].T @ embeddings
    means: Floats = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return means


def _alternatives(
    embeddings: Floats, seconds: npt.NDArray[np.float64], count: int, cut: Labels | None, least_seconds: float
) -> Iterator[Labels]:
    """The partitions into ``count`` clusters; ``cut`` is the tree's, with -1 for pieces that are in no cluster."""
    if count == 1:
        yield np.zeros(len(embeddings), dtype=np.int64)
        return

    def large_enough(labels: Labels) -> bool:
        spoken = np.bincount(labels, weights=seconds, minlength=count)
        return bool(np.all(spoken >= least_seconds) and np.all(np.bincount(labels, minlength=count) > 0))

    if cut is not None:
        settled = _settle_outliers(embeddings, cut)
        refined = _k_means(embeddings, settled)
        yield refined if large_enough(refined) else settled
    afresh = _k_means_afresh(embeddings, count)
    if large_enough(afresh):
        yield afresh


def _settle_outliers(embeddings: Floats, labels: Labels) -> Labels:
    """The labels with those pieces that are in no cluster, -1, given to the one whose mean is nearest."""
    outliers = labels < 0
    settled = labels.copy()
    if outliers.any():
        means = centroids(embeddings[~outliers], labels[~outliers])
        settled[outliers] = (embeddings[outliers] @ means.T).argmax(axis=1)
    return settled


def _k_means(embeddings: Floats, labels: Labels) -> Labels:
    """The partition that k-means comes to from ``labels``; a cluster may lose all its pieces."""
    for _ in range(_MOST_ROUNDS):
        nearest = (embeddings @ centroids(embeddings, labels).T).argmax(axis=1)
        if np.array_equal(nearest, labels) or nearest.max() < labels.max():
            break
        labels = nearest
    return labels


def _k_means_afresh(embeddings: Floats, count: int) -> Labels:
    """The most compact of the partitions that k-means comes to from several starts: the same each time."""
    random = np.random.default_rng(count)
    found = [_k_means(embeddings, _start(embeddings, count, random)) for _ in range(_STARTS)]
    return max(found, key=lambda labels: _compactness(embeddings, labels))


def _start(embeddings: Floats, count: int, random: np.random.Generator) -> Labels:
    """Each piece with the nearest of ``count`` pieces that are far apart.

    They are drawn as k-means++ does (Arthur and Vassilvitskii, 2007): with a probability that grows with the squared
    distance to those drawn before, which is twice the cosine distance on the unit sphere.
    """
    similarity = np.empty((len(embeddings), count), dtype=np.float32)
    distance = np.ones(len(embeddings))
    for number in range(count):
        total = distance.sum()
        drawn = random.choice(len(embeddings), p=distance / total if total > 0 else None)
        similarity[:, number] = embeddings @ embeddings[drawn]
        distance = np.minimum(distance, np.maximum(1.0 - similarity[:, number], 0.0))
        distance[drawn] = 0.0
    nearest: Labels = similarity.argmax(axis=1)
    return nearest


def _compactness(embeddings: Floats, labels: Labels) -> float:
    """Sum of the cosines of all pieces and the means of their clusters."""
    return float(np.sum(embeddings * centroids(embeddings, labels)[labels]))


class _Tree:
    """The order in which average linkage merges pieces by cosine distance, to be cut into any number of clusters.

    Nodes 0 to N - 1 are the pieces; node N + i is the i-th merge, and the last one holds them all.
    """

    def __init__(self, embeddings: Floats, seconds: npt.NDArray[np.float64]) -> None:
        self._pieces = len(seconds)
        self._merges = _merges(embeddings)
        self._seconds = seconds.tolist()
        self._sizes = [1] * self._pieces
        for left, right in self._merges:
            self._seconds.append(self._seconds[left] + self._seconds[right])
            self._sizes.append(self._sizes[left] + self._sizes[right])
        self._places = self._order_leaves()

    def cuts(self, least_seconds: float, most: int) -> Iterator[tuple[int, Labels]]:
        """For each number of clusters of ``least_seconds``, up to ``most``, the first cut from the top that gives it.

        Labels are from 0, and -1 for pieces in smaller clusters.
        """
        root = len(self._sizes) - 1
        large = {root}
        seen = {1}
        yield 1, np.zeros(self._pieces, dtype=np.int64)
        for node in range(root, self._pieces - 1, -1):
            if node in large:
                large.remove(node)
                large.update(
                    child for child in self._merges[node - self._pieces] if self._seconds[child] >= least_seconds
                )
                if 0 < len(large) <= most and len(large) not in seen:
                    seen.add(len(large))
                    yield len(large), self._labels(large)

    def _order_leaves(self) -> list[int]:
        """For each node the first place of its pieces, in an order in which the pieces of every node are together."""
        places = [0] * len(self._sizes)
        for node in range(len(self._sizes) - 1, self._pieces - 1, -1):
            left, right = self._merges[node - self._pieces]
            places[left] = places[node]
            places[right] = places[node] + self._sizes[left]
        return places

    def _labels(self, nodes: set[int]) -> Labels:
        in_order = np.full(self._pieces, -1, dtype=np.int64)
        for label, node in enumerate(sorted(nodes)):
            in_order[self._places[node] : self._places[node] + self._sizes[node]] = label
        return in_order[self._places[: self._pieces]]


def _merges(embeddings: Floats) -> list[tuple[int, int]]:
    """The nodes that each merge joins, in order; none for a single piece."""
    if len(embeddings) == 1:
        return []
    distance = 1.0 - np.clip(embeddings @ embeddings.T, -1.0, 1.0).astype(np.float64)
    np.fill_diagonal(distance, 0.0)
    linkage = AgglomerativeClustering(n_clusters=1, metric="precomputed", linkage="average", compute_full_tree=True)
    merges: list[tuple[int, int]] = linkage.fit(distance).children_.tolist()
    return merges
