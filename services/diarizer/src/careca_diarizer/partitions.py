"""Partitions: divides pieces of speech into each number of clusters, in more than one way. Pure.

No single method is right for all recordings. Average linkage (a tree of merges) finds a speaker who says little beside
others who say much, but with noisy pieces it puts nearly all of them into one cluster. k-means on the unit sphere
(Dhillon and Modha, "Concept decompositions for large sparse text data using clustering", 2001) keeps clusters compact,
but with a random start and many clusters it misses small ones. So both are tried: k-means that starts from the tree's
cut, and k-means with starts of its own. The caller compares the results.

N is the number of pieces, D the size of an embedding, K a number of clusters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

_MOST_ROUNDS = 50
"""Largest number of k-means iterations; usually about ten are enough."""

_STARTS = 8
"""Starts of k-means for each number of clusters; the most compact result is used."""


def partitions(
    embeddings: Floats, seconds: npt.NDArray[np.float64], *, least: int, most: int, least_seconds: float
) -> Mapping[int, tuple[Labels, ...]]:
    """Returns the partitions for each number of clusters from ``least`` to ``most`` that has any.

    There is always a partition into ``least`` clusters. Each cluster has at least ``least_seconds`` of speech, except
    that clusters may be smaller if there is no other partition into ``least`` clusters.

    Args:
        embeddings: of unit length: shape (N, D).
        seconds: lengths of the pieces: shape (N,).
        least: smallest number of clusters, at most N.
        most: largest number of clusters, at most N.
        least_seconds: smallest amount of speech in a cluster.

    Returns:
        Labels from 0, each of shape (N,), by number of clusters.
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
    """Returns the mean embedding of each cluster, of unit length: (K, D). A cluster without members has zeros."""
    sums = np.eye(int(labels.max()) + 1, dtype=np.float32)[labels].T @ embeddings
    means: Floats = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return means


def _alternatives(
    embeddings: Floats, seconds: npt.NDArray[np.float64], count: int, cut: Labels | None, least_seconds: float
) -> Iterator[Labels]:
    """Yields partitions into ``count`` clusters. ``cut`` is that of the tree, with -1 for pieces without a cluster."""
    if count == 1:
        yield np.zeros(len(embeddings), dtype=np.int64)
        return

    def large_enough(labels: Labels) -> bool:
        spoken = np.bincount(labels, weights=seconds, minlength=count)
        return bool(np.all(spoken >= least_seconds) and np.all(np.bincount(labels, minlength=count) > 0))

    if cut is not None:
        complete = _assign_outliers(embeddings, cut)
        refined = _k_means(embeddings, complete)
        yield refined if large_enough(refined) else complete
    independent = _best_k_means(embeddings, count)
    if large_enough(independent):
        yield independent


def _assign_outliers(embeddings: Floats, labels: Labels) -> Labels:
    """Returns the labels with each piece without a cluster, -1, assigned to the cluster with the nearest mean."""
    outliers = labels < 0
    complete = labels.copy()
    if outliers.any():
        means = centroids(embeddings[~outliers], labels[~outliers])
        complete[outliers] = (embeddings[outliers] @ means.T).argmax(axis=1)
    return complete


def _k_means(embeddings: Floats, labels: Labels) -> Labels:
    """Returns the result of k-means that starts from ``labels``; a cluster may lose all its pieces."""
    for _ in range(_MOST_ROUNDS):
        nearest = (embeddings @ centroids(embeddings, labels).T).argmax(axis=1)
        if np.array_equal(nearest, labels) or nearest.max() < labels.max():
            break
        labels = nearest
    return labels


def _best_k_means(embeddings: Floats, count: int) -> Labels:
    """Returns the most compact k-means result from several starts. Deterministic."""
    random = np.random.default_rng(count)
    found = [_k_means(embeddings, _start(embeddings, count, random)) for _ in range(_STARTS)]
    return max(found, key=lambda labels: _compactness(embeddings, labels))


def _start(embeddings: Floats, count: int, random: np.random.Generator) -> Labels:
    """Returns the start of k-means: each piece is assigned to the nearest of ``count`` seeds.

    Seeds are pieces drawn as in k-means++ (Arthur and Vassilvitskii, 2007): the probability is proportional to the
    squared distance to the seeds drawn before, which is twice the cosine distance on the unit sphere.
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
    """Returns the sum of the cosines of all pieces and the means of their clusters."""
    return float(np.sum(embeddings * centroids(embeddings, labels)[labels]))


class _Tree:
    """The merges of average linkage by cosine distance. The tree can be cut into any number of clusters.

    Nodes 0 to N - 1 are the pieces; node N + i is the i-th merge, and the last node contains all pieces.
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
        """Yields, for each number up to ``most``, the first cut from the top with that many clusters.

        Only clusters of at least ``least_seconds`` count. Labels are from 0, and -1 for pieces in smaller clusters.
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
        """Returns the position of each node's first piece, in an order in which a node's pieces are adjacent."""
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
    """Returns the two nodes of each merge, in order; none for a single piece."""
    if len(embeddings) == 1:
        return []
    from sklearn.cluster import AgglomerativeClustering

    distance = 1.0 - np.clip(embeddings @ embeddings.T, -1.0, 1.0).astype(np.float64)
    np.fill_diagonal(distance, 0.0)
    linkage = AgglomerativeClustering(n_clusters=1, metric="precomputed", linkage="average", compute_full_tree=True)
    merges: list[tuple[int, int]] = linkage.fit(distance).children_.tolist()
    return merges
