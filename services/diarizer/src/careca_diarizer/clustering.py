"""Clustering: which pieces of speech are the same voice, and how many voices there are. Pure.

The number of speakers is one whose clusters have a good silhouette (Rousseeuw, "Silhouettes: a graphical aid to the
interpretation and validation of cluster analysis", 1987), among those whose clusters are different voices. Every
cluster counts the same, so that who speaks little is found beside who speaks much; one of a single piece does not
count, since it has no width. Of numbers that are about as good the largest is taken: to merge two voices costs the
silhouette little where there are many. It is not defined for one cluster and always finds something in two, so that one
speaker is what remains where no other number gives different voices.

N is the number of pieces, K that of speakers, D the size of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import silhouette_samples

from careca.types import DiarizationOptions, SpeakerCountCandidate

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

_LEAST_TRAINING_SECONDS = 0.6
"""Shorter pieces do not shape the clusters, since their embeddings are too noisy, and join the nearest one."""

_MOST_TRAINING_PIECES = 3000
"""Pieces that shape the clusters; of more, evenly spread ones are taken, since memory grows with their square."""

_LEAST_CLUSTER_SECONDS = 1.0
_LEAST_CLUSTER_SHARE = 0.02
_LEAST_CLUSTER_SECONDS_AT_MOST = 10.0
"""A cluster with less speech than this, or than this share of all speech, is an outlier and no speaker, unless a number
was asked for. Somebody who speaks for 10 s counts, also in a recording of an hour."""


_ABOUT_AS_GOOD = 0.03
"""A silhouette this much below the best is no worse."""


@dataclass(frozen=True, slots=True)
class Voices:
    """Pieces of speech in order, with what they sound like."""

    embeddings: Floats
    """Of unit length: shape (N, D)."""
    seconds: npt.NDArray[np.float64]
    """Length of each piece: shape (N,)."""
    clean: npt.NDArray[np.bool_]
    """Whether one person speaks in it and not several: shape (N,)."""
    part: npt.NDArray[np.bool_]
    """Whether it is a part of another piece; it shapes no cluster and joins the nearest one: shape (N,)."""

    def __len__(self) -> int:
        return len(self.seconds)


@dataclass(frozen=True, slots=True)
class SpeakerBounds:
    """The least and the greatest number of speakers that may be found."""

    least: int
    most: int

    @classmethod
    def of(cls, options: DiarizationOptions, most: int) -> SpeakerBounds:
        """What the caller asked for; where the caller set no upper bound, ``most``."""
        if options.speaker_count is not None:
            return cls(options.speaker_count, options.speaker_count)
        least = options.min_speaker_count or 1
        return cls(least, options.max_speaker_count or max(least, most))


@dataclass(frozen=True, slots=True)
class Clustering:
    """Whose voice each piece is."""

    labels: Labels
    """The speaker of each piece, from 0; every speaker has at least one: shape (N,)."""
    similarity: Floats
    """Cosine of each piece and the mean voice of each speaker: shape (N, K)."""
    candidates: tuple[SpeakerCountCandidate, ...]
    """The numbers of speakers that were considered, by number."""
    voices: Floats
    """Mean voice of each speaker, of unit length: shape (K, D)."""

    @property
    def speakers(self) -> int:
        """How many speakers there are."""
        return int(self.similarity.shape[1])


@dataclass(frozen=True, slots=True)
class _Partition:
    """The training pieces in some number of clusters."""

    labels: Labels
    score: float | None
    """Mean over the clusters of several pieces of their mean silhouettes, ``None`` where there is none."""
    likeness: float
    """Mean cosine of the pieces of the two clusters that are most alike."""


def cluster(voices: Voices, bounds: SpeakerBounds, *, same_voice: float) -> Clustering:
    """Finds the speakers within ``bounds``, or as many as there are pieces where these are fewer than ``bounds.least``.

    Pieces that are parts of others are not counted.

    ``same_voice`` is the mean cosine of pieces from which on two clusters are one voice.
    """
    if not len(voices):
        nobody = np.zeros((0, voices.embeddings.shape[1]), dtype=np.float32)
        return Clustering(np.zeros(0, dtype=np.int64), nobody[:, :0], (), nobody)
    training = _training_pieces(voices, bounds.least)
    embeddings, seconds = voices.embeddings[training], voices.seconds[training]
    partitions = _partitions(embeddings, seconds, SpeakerBounds(bounds.least, min(bounds.most, len(training))))
    chosen = partitions[_choose(partitions, same_voice)]
    centroids = _centroids(embeddings, chosen.labels)
    similarity = voices.embeddings @ centroids.T
    labels = similarity.argmax(axis=1)
    labels[training] = chosen.labels
    candidates = tuple(SpeakerCountCandidate(count, partitions[count].score) for count in sorted(partitions))
    return Clustering(labels, similarity, candidates, centroids)


def _training_pieces(voices: Voices, least: int) -> npt.NDArray[np.int64]:
    """Indices of the pieces that shape the clusters: the clean and long ones, and of too few of these the next best."""
    good = np.flatnonzero(~voices.part & voices.clean & (voices.seconds >= _LEAST_TRAINING_SECONDS))
    wanted = min(max(2, least), int(np.sum(~voices.part)))
    if len(good) < wanted:
        best_first = np.lexsort((-voices.seconds, ~voices.clean, voices.part))
        good = np.sort(best_first[:wanted])
    if len(good) > max(_MOST_TRAINING_PIECES, least):
        good = good[np.linspace(0, len(good) - 1, max(_MOST_TRAINING_PIECES, least)).astype(np.int64)]
    return good


def _partitions(
    embeddings: Floats, seconds: npt.NDArray[np.float64], bounds: SpeakerBounds
) -> Mapping[int, _Partition]:
    """The partition into each number of clusters within ``bounds`` that has one, and always into the least number."""
    least = min(bounds.least, len(embeddings))
    if len(embeddings) == 1:
        return {1: _Partition(np.zeros(1, dtype=np.int64), None, -1.0)}
    cosine = np.clip(embeddings @ embeddings.T, -1.0, 1.0).astype(np.float64)
    distance = 1.0 - cosine
    np.fill_diagonal(distance, 0.0)
    tree = _Tree(distance, seconds)
    floor = np.clip(_LEAST_CLUSTER_SHARE * seconds.sum(), _LEAST_CLUSTER_SECONDS, _LEAST_CLUSTER_SECONDS_AT_MOST)
    cuts = {count: labels for count, labels in tree.cuts(float(floor), bounds.most) if count >= least}
    if least not in cuts:
        cuts[least] = next(labels for count, labels in tree.cuts(0.0, bounds.most) if count == least)
    return {count: _measured(_settle_outliers(embeddings, labels), cosine, distance) for count, labels in cuts.items()}


def _choose(partitions: Mapping[int, _Partition], same_voice: float) -> int:
    """The largest number of speakers with a good silhouette whose voices differ; where there is none, the least."""
    different = [count for count, partition in partitions.items() if partition.likeness < same_voice]
    scores = {count: score for count in different if (score := partitions[count].score) is not None}
    if scores:
        best = max(scores.values())
        return max(count for count, score in scores.items() if score >= best - _ABOUT_AS_GOOD)
    return max((count for count in different if count > 1), default=min(partitions))


def _measured(labels: Labels, cosine: npt.NDArray[np.float64], distance: npt.NDArray[np.float64]) -> _Partition:
    count = int(labels.max()) + 1
    member = np.eye(count)[labels]  # (N, K)
    size = member.sum(axis=0)  # (K,)
    score = None
    if 2 <= count < len(labels):
        widths = silhouette_samples(distance, labels, metric="precomputed") @ member / size  # (K,)
        score = float(np.mean(widths[size > 1]))
    likeness = member.T @ cosine @ member / np.outer(size, size)  # (K, K)
    np.fill_diagonal(likeness, -1.0)
    return _Partition(labels, score, float(likeness.max()))


def _settle_outliers(embeddings: Floats, labels: Labels) -> Labels:
    """The labels with those pieces that are in no cluster, -1, given to the one whose mean voice is nearest."""
    outliers = labels < 0
    settled = labels.copy()
    if outliers.any():
        centroids = _centroids(embeddings[~outliers], labels[~outliers])
        settled[outliers] = (embeddings[outliers] @ centroids.T).argmax(axis=1)
    return settled


def _centroids(embeddings: Floats, labels: Labels) -> Floats:
    """Mean voice of each cluster, of unit length: (K, D)."""
    sums = np.zeros((int(labels.max()) + 1, embeddings.shape[1]), dtype=np.float32)
    np.add.at(sums, labels, embeddings)
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    centroids: Floats = sums / np.maximum(length, np.finfo(np.float32).tiny)
    return centroids


class _Tree:
    """The order in which average linkage merges pieces, to be cut into any number of clusters.

    Nodes 0 to N - 1 are the pieces; node N + i is the i-th merge, and the last one holds them all.
    """

    def __init__(self, distance: npt.NDArray[np.float64], seconds: npt.NDArray[np.float64]) -> None:
        linkage = AgglomerativeClustering(
            n_clusters=1, metric="precomputed", linkage="average", compute_full_tree=True
        ).fit(distance)
        self._merges: list[tuple[int, int]] = linkage.children_.tolist()
        self._pieces = len(seconds)
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
