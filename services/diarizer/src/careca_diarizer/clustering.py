"""Clustering: finds which pieces of speech have the same voice, and how many voices there are. Pure.

For each number of speakers there are several partitions (``careca_diarizer.partitions``). The one with the best
silhouette is used (Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis",
1987). The number of speakers is the largest of those with about the best silhouette whose clusters are different
voices. It is the largest because, with many voices, a merge of two voices lowers the silhouette only a little. All
clusters have the same weight, so a speaker who says little is found beside one who says much. Clusters of a single
piece are not counted, because they have no width. The silhouette is not defined for one cluster, and can be good for
two halves of one voice. So the result is one speaker if no larger number gives different voices.

N is the number of pieces, K that of speakers, D the size of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from careca.types import DiarizationOptions, SpeakerCountCandidate
from careca_diarizer.partitions import Floats, Labels, centroids, partitions

_LEAST_TRAINING_SECONDS = 0.6
"""Shorter pieces are not used for training, because their embeddings are too noisy; they join the nearest cluster."""

_MOST_TRAINING_PIECES = 3000
"""Largest number of training pieces; of more, evenly spaced ones are used, because memory grows quadratically."""

_LEAST_CLUSTER_SECONDS = 1.0
_LEAST_CLUSTER_SHARE = 0.02
_LEAST_CLUSTER_SECONDS_AT_MOST = 10.0
"""A cluster with less speech than this, or than this share of all speech, is an outlier and not a speaker, unless the
request has a number of speakers. A speaker with 10 s of speech counts even in a recording of an hour."""

_ABOUT_AS_GOOD = 0.05
"""Silhouettes that are lower than the best by at most this share count as equally good."""

_USUAL_WITHIN = 0.65
_USUAL_WITHIN_PIECES = 3
"""Prior for the mean cosine of two pieces of one voice with CAM++, and its weight in pieces. It is needed because a
short recording gives little evidence, and one with a single piece for each speaker gives none."""

_UNCERTAINTY = 0.4
"""Uncertainty of the similarity of two voices: this value divided by the square root of the seconds of speech.

Random parts of one voice deviate by 0.11 divided by that root. Clusters are not random, because they are chosen to
differ, so the value is more than three times as large."""


@dataclass(frozen=True, slots=True)
class Voices:
    """Pieces of speech in order, with their embeddings."""

    embeddings: Floats
    """Of unit length: shape (N, D)."""
    seconds: npt.NDArray[np.float64]
    """Length of each piece: shape (N,)."""
    clean: npt.NDArray[np.bool_]
    """Whether only one person speaks in it: shape (N,)."""
    part: npt.NDArray[np.bool_]
    """Whether it is a part of another piece; such pieces are not used for training: shape (N,)."""

    def __len__(self) -> int:
        return len(self.seconds)


@dataclass(frozen=True, slots=True)
class SpeakerBounds:
    """The smallest and the largest number of speakers that may be found."""

    least: int
    most: int

    @classmethod
    def of(cls, options: DiarizationOptions, most: int) -> SpeakerBounds:
        """Returns the bounds in ``options``; without an upper bound there, ``most`` is the upper bound."""
        if options.speaker_count is not None:
            return cls(options.speaker_count, options.speaker_count)
        least = options.min_speaker_count or 1
        return cls(least, options.max_speaker_count or max(least, most))


@dataclass(frozen=True, slots=True)
class Clustering:
    """The speaker of each piece."""

    labels: Labels
    """The speaker of each piece, from 0; every speaker has at least one piece: shape (N,)."""
    similarity: Floats
    """Cosine of each piece and each speaker's mean voice: shape (N, K)."""
    candidates: tuple[SpeakerCountCandidate, ...]
    """The numbers of speakers that were considered, ascending."""
    voices: Floats
    """Mean voice of each speaker, of unit length: shape (K, D)."""

    @property
    def speakers(self) -> int:
        """The number of speakers."""
        return int(self.similarity.shape[1])


@dataclass(frozen=True, slots=True)
class _Partition:
    """The training pieces divided into clusters."""

    labels: Labels
    score: float | None
    """Mean over the clusters with several pieces of their mean silhouettes, ``None`` if undefined."""
    similarity: float
    """The similarity of the two most similar clusters: see ``_similarity``."""


def cluster(voices: Voices, bounds: SpeakerBounds, *, same_voice: float) -> Clustering:
    """Finds the speakers within ``bounds``; with fewer pieces than ``bounds.least``, one speaker for each piece.

    Pieces that are parts of others are not counted. Two clusters with a similarity of at least ``same_voice`` are the
    same voice.
    """
    if not len(voices):
        nobody = np.zeros((0, voices.embeddings.shape[1]), dtype=np.float32)
        return Clustering(np.zeros(0, dtype=np.int64), nobody[:, :0], (), nobody)
    training = _training_pieces(voices, bounds.least)
    embeddings, seconds = voices.embeddings[training], voices.seconds[training]
    by_count = _partitions(embeddings, seconds, bounds)
    chosen = by_count[_choose(by_count, same_voice)]
    means = centroids(embeddings, chosen.labels)
    similarity = voices.embeddings @ means.T
    labels = similarity.argmax(axis=1)
    labels[training] = chosen.labels
    candidates = tuple(SpeakerCountCandidate(count, by_count[count].score) for count in sorted(by_count))
    return Clustering(labels, similarity, candidates, means)


def _training_pieces(voices: Voices, least: int) -> npt.NDArray[np.int64]:
    """Returns the indices of the training pieces: the clean and long ones; if these are too few, the next best."""
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
    """Returns the best partition for each number of clusters within ``bounds`` that has one.

    The smallest number always has one. It is the number of pieces if these are fewer than ``bounds.least``.
    """
    floor = np.clip(_LEAST_CLUSTER_SHARE * seconds.sum(), _LEAST_CLUSTER_SECONDS, _LEAST_CLUSTER_SECONDS_AT_MOST)
    found = partitions(
        embeddings,
        seconds,
        least=min(bounds.least, len(embeddings)),
        most=min(bounds.most, len(embeddings)),
        least_seconds=float(floor),
    )
    cosine = np.clip(embeddings @ embeddings.T, -1.0, 1.0).astype(np.float64)  # (N, N)
    distance = 1.0 - cosine
    np.fill_diagonal(distance, 0.0)
    return {count: _best(alternatives, cosine, distance, seconds) for count, alternatives in found.items()}


def _best(
    alternatives: Sequence[Labels],
    cosine: npt.NDArray[np.float64],
    distance: npt.NDArray[np.float64],
    seconds: npt.NDArray[np.float64],
) -> _Partition:
    """Returns the alternative with the best silhouette; with equal or undefined ones, the first."""
    scores = [_silhouette(labels, distance) for labels in alternatives]
    best = max(range(len(alternatives)), key=lambda index: -1.0 if (score := scores[index]) is None else score)
    return _Partition(alternatives[best], scores[best], _similarity(alternatives[best], cosine, seconds))


def _choose(by_count: Mapping[int, _Partition], same_voice: float) -> int:
    """Returns the largest number of speakers with a good silhouette and different voices, else the smallest number."""
    different = [count for count, partition in by_count.items() if partition.similarity < same_voice]
    scores = {count: score for count in different if (score := by_count[count].score) is not None}
    if scores:
        best = max(scores.values())
        return max(count for count, score in scores.items() if score >= best - _ABOUT_AS_GOOD * abs(best))
    return max((count for count in different if count > 1), default=min(by_count))


def _silhouette(labels: Labels, distance: npt.NDArray[np.float64]) -> float | None:
    """Returns the mean over the clusters with several pieces of their mean silhouettes; ``None`` if undefined."""
    sizes = np.bincount(labels)
    if not 2 <= len(sizes) < len(labels):
        return None
    # Imported late, like all of scikit-learn and most of scipy: the import takes longer than the rest of a start.
    from sklearn.metrics import silhouette_samples

    widths = np.bincount(labels, weights=silhouette_samples(distance, labels, metric="precomputed")) / sizes  # (K,)
    return float(np.mean(widths[sizes > 1]))


def _similarity(labels: Labels, cosine: npt.NDArray[np.float64], seconds: npt.NDArray[np.float64]) -> float:
    """Returns the upper bound of the similarity of the two most similar clusters; -1 for a single cluster.

    The mean cosine of two clusters' pieces is the cosine of their voices times the mean cosine of pieces of one voice.
    Noise and codecs change both in the same way. So the first is divided by the second (the correction for attenuation:
    Spearman, "The proof and measurement of association between two things", 1904): 1 is the same voice in any
    recording. The uncertainty is added, so that clusters with little speech must differ more to count as two voices.
    """
    member = np.eye(int(labels.max()) + 1)[labels]  # (N, K)
    size = member.sum(axis=0)  # (K,)
    if len(size) == 1:
        return -1.0
    total = member.T @ cosine @ member  # (K, K)
    across = total / np.outer(size, size)
    several = size > 1
    to_others = ((total.diagonal() - member.T @ cosine.diagonal())[several] / (size[several] - 1)).sum()
    within = (to_others + _USUAL_WITHIN_PIECES * _USUAL_WITHIN) / (size[several].sum() + _USUAL_WITHIN_PIECES)
    spoken = member.T @ seconds  # (K,)
    known_by = np.outer(spoken, spoken) / np.add.outer(spoken, spoken)  # (K, K) seconds
    likeness = across / within + _UNCERTAINTY / np.sqrt(known_by)
    np.fill_diagonal(likeness, -1.0)
    return float(likeness.max())
