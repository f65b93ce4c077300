"""Partitions into a given number of clusters: from the tree's cut, and from independent starts."""

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import adjusted_rand_score

from careca_diarizer import partitions as module
from careca_diarizer.partitions import Floats, Labels, centroids, partitions

Vectors = npt.NDArray[np.float64]


def unit(vectors: Vectors) -> Vectors:
    length: Vectors = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / length


def pieces_of(truth: Labels, noise: float, *, alike: float = 0.0) -> Floats:
    """Pieces of voices, each mixed with the share ``alike`` of the first voice: shape (N, 192)."""
    random = np.random.default_rng(1)
    voices = unit(random.normal(size=(int(truth.max()) + 1, 192)))
    voices = unit(np.concatenate([voices[:1], voices[1:] + alike * voices[0]]))
    return unit(voices[truth] + noise * unit(random.normal(size=(len(truth), 192)))).astype(np.float32)


def seconds_of(embeddings: Floats, seconds: float = 2.0) -> npt.NDArray[np.float64]:
    return np.full(len(embeddings), seconds)


def test_each_number_has_partitions_into_as_many_clusters_from_0_on() -> None:
    truth = np.repeat(np.arange(4), 6)
    embeddings = pieces_of(truth, 0.7)

    found = partitions(embeddings, seconds_of(embeddings), least=1, most=6, least_seconds=1.0)

    assert list(found) == [1, 2, 3, 4, 5, 6]
    for count, alternatives in found.items():
        assert alternatives
        for labels in alternatives:
            assert sorted(set(labels.tolist())) == list(range(count))


def test_the_true_partition_is_found_both_ways() -> None:
    truth = np.repeat(np.arange(4), 6)
    embeddings = pieces_of(truth, 0.7)

    alternatives = partitions(embeddings, seconds_of(embeddings), least=1, most=6, least_seconds=1.0)[4]

    assert len(alternatives) == 2
    assert all(adjusted_rand_score(truth, labels) == 1.0 for labels in alternatives)


def test_each_cluster_has_the_least_speech() -> None:
    truth = np.array([0] * 20 + [1] * 20 + [2] * 2)
    embeddings = pieces_of(truth, 0.7)

    found = partitions(embeddings, seconds_of(embeddings), least=1, most=10, least_seconds=5.0)

    assert all(
        np.bincount(labels, weights=seconds_of(embeddings)).min() >= 5.0
        for alternatives in found.values()
        for labels in alternatives
    )


def test_the_smallest_number_has_a_partition_even_if_its_clusters_are_small() -> None:
    embeddings = pieces_of(np.array([0, 0, 0, 1, 1]), 0.5)

    found = partitions(embeddings, seconds_of(embeddings), least=5, most=5, least_seconds=9.0)

    assert [sorted(labels.tolist()) for labels in found[5]] == [[0, 1, 2, 3, 4]]


def test_a_person_who_says_little_beside_many_others_is_a_cluster() -> None:
    """Independent starts of k-means rarely hit such a small cluster; the tree's cut does."""
    truth = np.array([number for number in range(9) for _ in range(30)] + [9, 9, 9])
    embeddings = pieces_of(truth, 0.7)

    alternatives = partitions(embeddings, seconds_of(embeddings), least=1, most=10, least_seconds=5.0)[10]

    assert max(adjusted_rand_score(truth, labels) for labels in alternatives) == 1.0


def test_voices_that_the_tree_cannot_cut_are_cut_by_k_means() -> None:
    """Pieces of one voice are hardly closer to each other than to the other voice, but the means are far apart."""
    truth = np.repeat(np.arange(2), 40)
    embeddings = pieces_of(truth, 2.0, alike=1.0)
    tree = dict(module._Tree(embeddings, seconds_of(embeddings)).cuts(2.0, 2))

    alternatives = partitions(embeddings, seconds_of(embeddings), least=1, most=2, least_seconds=2.0)[2]

    assert adjusted_rand_score(truth, tree[2]) < 0.1
    assert max(adjusted_rand_score(truth, labels) for labels in alternatives) > 0.9


def test_the_same_pieces_always_give_the_same_partitions() -> None:
    embeddings = pieces_of(np.repeat(np.arange(5), 20), 1.2)
    once, again = (partitions(embeddings, seconds_of(embeddings), least=1, most=8, least_seconds=1.0) for _ in range(2))

    assert [[labels.tolist() for labels in once[count]] for count in once] == [
        [labels.tolist() for labels in again[count]] for count in again
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_identical_pieces_are_handled(count: int) -> None:
    embeddings = np.tile(pieces_of(np.array([0]), 0.5), (4, 1))

    found = partitions(embeddings, seconds_of(embeddings), least=count, most=3, least_seconds=1.0)

    assert len(set(found[count][0].tolist())) == count


def test_a_single_piece_is_one_cluster() -> None:
    embeddings = pieces_of(np.array([0]), 0.5)

    assert partitions(embeddings, seconds_of(embeddings), least=1, most=1, least_seconds=1.0)[1][0].tolist() == [0]


def test_means_are_of_unit_length() -> None:
    embeddings = pieces_of(np.array([0, 0, 1]), 0.7)

    means = centroids(embeddings, np.array([0, 0, 1]))

    assert np.linalg.norm(means, axis=1) == pytest.approx([1.0, 1.0])
    assert means[1] == pytest.approx(embeddings[2])
