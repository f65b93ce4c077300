"""Clustering: which pieces of speech are the same voice, and how many voices there are. Pure.

For each number of speakers there are several partitions (``careca_diarizer.partitions``). The one with the best
silhouette is taken (Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster
analysis", 1987). The number of speakers is one with a good silhouette, among those whose clusters are different
voices. Every cluster counts the same, so that a speaker who says little is found beside one who says much. A cluster
of a single piece does not count, since it has no width. Of numbers that are about as good the largest is taken: to
merge two voices costs the silhouette little where there are many. The silhouette is not defined for one cluster and
always finds something in two, so one speaker is what remains where no other number gives different voices.

N is the number of pieces, K that of speakers, D the size of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import silhouette_samples

from careca.types import DiarizationOptions, SpeakerCountCandidate
from careca_diarizer.partitions import Floats, Labels, centroids, partitions

_LEAST_TRAINING_SECONDS = 0.6
"""Shorter pieces do not shape the clusters, since their embeddings are too noisy, and join the nearest one."""

_MOST_TRAINING_PIECES = 3000
"""Pieces that shape the clusters; of more, evenly spread ones are taken, since memory grows with their square."""

_LEAST_CLUSTER_SECONDS = 1.0
_LEAST_CLUSTER_SHARE = 0.02
_LEAST_CLUSTER_SECONDS_AT_MOST = 10.0
"""A cluster with less speech than this, or than this share of all speech, is an outlier and no speaker, unless a number
was asked for. Somebody who speaks for 10 s counts, also in a recording of an hour."""

_ABOUT_AS_GOOD = 0.05
"""A silhouette that is below the best one by this share of it is about as good."""

_USUAL_WITHIN = 0.65
_USUAL_WITHIN_PIECES = 3
"""Mean cosine of two pieces of one voice, as it usually is for CAM++, and how many pieces this assumption weighs as
much as: a short recording says little about it, and one with a single piece for each speaker says nothing."""

_UNCERTAINTY = 0.4
"""How uncertain the likeness of two voices is: this much over the square root of the seconds that they are known by.

Random parts of one voice scatter by 0.11 over that root. Clusters are no random parts, as they were chosen to differ,
so more than three times as much is allowed for."""


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
    """How alike the voices of the two clusters may be that are most alike: see ``_likeness``."""


def cluster(voices: Voices, bounds: SpeakerBounds, *, same_voice: float) -> Clustering:
    """Finds the speakers within ``bounds``, or as many as there are pieces where these are fewer than ``bounds.least``.

    Pieces that are parts of others are not counted. From a likeness of ``same_voice`` on two clusters are one voice.
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
    """The best partition into each number of clusters within ``bounds`` that has one, and always into the least number.

    Where there are fewer pieces than ``bounds.least``, that number is theirs.
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
    """The alternative with the best silhouette, the first of several; where there is none, the first."""
    scores = [_silhouette(labels, distance) for labels in alternatives]
    best = max(range(len(alternatives)), key=lambda index: -1.0 if (score := scores[index]) is None else score)
    return _Partition(alternatives[best], scores[best], _likeness(alternatives[best], cosine, seconds))


def _choose(by_count: Mapping[int, _Partition], same_voice: float) -> int:
    """The largest number of speakers with a good silhouette whose voices differ; where there is none, the least."""
    different = [count for count, partition in by_count.items() if partition.likeness < same_voice]
    scores = {count: score for count in different if (score := by_count[count].score) is not None}
    if scores:
        best = max(scores.values())
        return max(count for count, score in scores.items() if score >= best - _ABOUT_AS_GOOD * abs(best))
    return max((count for count in different if count > 1), default=min(by_count))


def _silhouette(labels: Labels, distance: npt.NDArray[np.float64]) -> float | None:
    """Mean over the clusters of several pieces of their mean silhouettes; ``None`` where it is not defined."""
    sizes = np.bincount(labels)
    if not 2 <= len(sizes) < len(labels):
        return None
    widths = np.bincount(labels, weights=silhouette_samples(distance, labels, metric="precomputed")) / sizes  # (K,)
    return float(np.mean(widths[sizes > 1]))


def _likeness(labels: Labels, cosine: npt.NDArray[np.float64], seconds: npt.NDArray[np.float64]) -> float:
    """How alike the voices of the two clusters may be that are most alike; -1 for a single cluster.

    The mean cosine of two clusters' pieces is that of their voices times the mean cosine of pieces of one voice, which
    noise and codecs change as much. So the one is divided by the other (Spearman, "The proof and measurement of
    association between two things", 1904, calls it the correction for attenuation): 1 is the same voice, whatever the
    recording is like. The uncertainty is added, so that clusters of little speech must differ more to be two voices.
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
