"""Clustering of random voices: the speaker of each piece and the number of speakers."""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from careca.types import DiarizationOptions
from careca_diarizer import clustering
from careca_diarizer.clustering import Clustering, SpeakerBounds, Voices, _choose, _Partition, _silhouette, cluster

SAME_VOICE = 0.84
FREE = SpeakerBounds(1, 10)

Vectors = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def unit(vectors: Vectors) -> Vectors:
    length: Vectors = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / length


def people(count: int, seed: int = 0) -> Vectors:
    """Voices of different people, nearly orthogonal: shape (count, 192)."""
    return unit(np.random.default_rng(seed).normal(size=(count, 192)))


def spoken(
    speakers: Sequence[int] | Labels,
    seconds: float = 3.0,
    *,
    noise: float = 0.65,
    seed: int = 1,
    voices: Vectors | None = None,
) -> Voices:
    """Pieces of these speakers: the cosine is about 0.7 for one person and about 0 for two."""
    whose = np.array(speakers, dtype=np.int64)
    voices = people(int(whose.max(initial=0)) + 1) if voices is None else voices
    random = unit(np.random.default_rng(seed).normal(size=(len(whose), 192)))
    embeddings = unit(voices[whose] + noise * random).astype(np.float32)
    all_of_them = np.ones(len(whose), dtype=bool)
    return Voices(embeddings, np.full(len(whose), seconds), clean=all_of_them, part=~all_of_them)


def together(*parts: Voices) -> Voices:
    return Voices(
        *(np.concatenate([getattr(each, field.name) for each in parts]) for field in fields(Voices)),
    )


def found(voices: Voices, bounds: SpeakerBounds = FREE) -> Clustering:
    return cluster(voices, bounds, same_voice=SAME_VOICE)


def turn_taking(count: int, pieces_each: int = 8) -> Labels:
    return np.tile(np.arange(count, dtype=np.int64), pieces_each)


@pytest.mark.parametrize("count", range(1, 9))
def test_as_many_speakers_are_found_as_there_are(count: int) -> None:
    truth = turn_taking(count)

    result = found(spoken(truth))

    assert result.speakers == count
    assert adjusted_rand_score(truth, result.labels) == 1.0


def test_one_speaker_is_found_although_more_have_a_silhouette() -> None:
    result = found(spoken(turn_taking(1, 40)))

    assert result.speakers == 1
    scores = {candidate.speaker_count: candidate.silhouette_score for candidate in result.candidates}
    assert scores[1] is None
    assert all(-1 <= score <= 1 for count in range(2, 11) if (score := scores[count]) is not None)
    assert None not in [scores[count] for count in range(2, 11)]


def test_the_best_silhouette_among_the_candidates_is_the_number_found() -> None:
    result = found(spoken(turn_taking(4)))

    scores = {candidate.speaker_count: candidate.silhouette_score for candidate in result.candidates}
    assert list(scores) == sorted(scores)
    assert max((score, count) for count, score in scores.items() if score is not None)[1] == 4


def test_no_speech_has_no_speakers() -> None:
    result = found(spoken([]))

    assert result.speakers == 0
    assert result.labels.shape == (0,)
    assert result.candidates == ()


def test_one_piece_is_one_speaker() -> None:
    assert found(spoken([0])).labels.tolist() == [0]


def test_two_pieces_are_two_speakers_only_if_their_voices_differ() -> None:
    assert found(spoken([0, 0])).speakers == 1
    assert found(spoken([0, 1])).speakers == 2


def test_a_short_outlier_is_not_a_speaker_unless_requested() -> None:
    conversation = spoken(turn_taking(2))
    cough = spoken([0], seconds=0.9, voices=people(1, seed=9))
    cough_of_training_length = spoken([0], seconds=1.2, voices=people(1, seed=9))

    assert found(together(conversation, cough)).speakers == 2
    assert found(together(spoken(turn_taking(2, 40)), cough_of_training_length)).speakers == 2
    exact = found(together(conversation, cough_of_training_length), SpeakerBounds(3, 3))
    assert exact.speakers == 3
    assert np.sum(exact.labels == exact.labels[-1]) == 1


def test_a_person_who_speaks_little_in_a_long_recording_is_a_speaker() -> None:
    """The two main voices are slightly similar, as two of three always are."""
    first, second, third = people(3)
    talk = spoken(turn_taking(2, 400), voices=unit(np.array([first, second + 0.4 * first])))
    question = spoken([0] * 4, voices=third[None])

    assert found(together(talk, question)).speakers == 3


def test_short_and_unclean_pieces_join_the_nearest_speaker_and_are_not_used_for_training() -> None:
    truth = turn_taking(2, 10)
    mumbling = spoken(truth, seconds=0.5, noise=1.5, seed=2)
    overlapped = spoken(truth, noise=1.5, seed=3)
    overlapped = replace(overlapped, clean=np.zeros(len(truth), dtype=bool))

    result = found(together(spoken(truth), mumbling, overlapped))

    assert result.speakers == 2
    assert adjusted_rand_score(np.tile(truth, 3), result.labels) > 0.9


def test_parts_of_pieces_join_the_nearest_speaker_and_are_never_used_for_training() -> None:
    truth = turn_taking(2)
    parts = spoken([0, 1, 2, 2, 2], voices=people(3), seed=2)
    parts = replace(parts, part=np.ones(len(parts), dtype=bool))

    result = found(together(spoken(truth, voices=people(3)), parts))

    assert result.speakers == 2
    assert result.labels[:2].tolist() == result.labels[len(truth) :][:2].tolist()


def test_parts_of_pieces_do_not_count_as_pieces() -> None:
    parts = replace(spoken([1, 2]), part=np.ones(2, dtype=bool))

    assert found(together(spoken([0]), parts), SpeakerBounds(3, 3)).speakers == 1


@pytest.mark.parametrize("count", range(1, 7))
def test_the_requested_number_of_speakers_is_found(count: int) -> None:
    assert found(spoken(turn_taking(3)), SpeakerBounds(count, count)).speakers == count


def test_minimum_and_maximum_are_respected() -> None:
    voices = spoken(turn_taking(4))

    assert found(voices, SpeakerBounds(6, 10)).speakers == 6
    assert found(voices, SpeakerBounds(1, 3)).speakers <= 3
    assert found(voices, SpeakerBounds(2, 5)).speakers == 4
    assert found(spoken(turn_taking(1)), SpeakerBounds(2, 5)).speakers == 2


def test_a_request_for_more_speakers_than_pieces_gives_one_speaker_per_piece() -> None:
    assert found(spoken([0, 0, 1]), SpeakerBounds(5, 5)).speakers == 3


def test_bounds_follow_from_the_options() -> None:
    assert SpeakerBounds.of(DiarizationOptions(), 10) == SpeakerBounds(1, 10)
    assert SpeakerBounds.of(DiarizationOptions(speaker_count=3), 10) == SpeakerBounds(3, 3)
    assert SpeakerBounds.of(DiarizationOptions(min_speaker_count=2), 10) == SpeakerBounds(2, 10)
    assert SpeakerBounds.of(DiarizationOptions(min_speaker_count=20), 10) == SpeakerBounds(20, 20)
    assert SpeakerBounds.of(DiarizationOptions(max_speaker_count=30), 10) == SpeakerBounds(1, 30)


def test_of_very_many_pieces_some_are_used_for_training_and_all_get_a_speaker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clustering, "_MOST_TRAINING_PIECES", 60)
    truth = turn_taking(3, 200)

    result = found(spoken(truth))

    assert result.speakers == 3
    assert adjusted_rand_score(truth, result.labels) == 1.0


@settings(deadline=None)
@given(
    speakers=st.lists(st.integers(0, 4), min_size=1, max_size=25),
    lengths=st.integers(0, 2**16),
    least=st.integers(1, 6),
    extra=st.integers(0, 6),
)
def test_bounds_are_always_kept_and_every_speaker_speaks(
    speakers: list[int], lengths: int, least: int, extra: int
) -> None:
    random = np.random.default_rng(lengths)
    plain = spoken(speakers, seed=lengths)
    voices = replace(
        plain,
        seconds=random.uniform(0.15, 3.5, len(plain)),
        clean=random.random(len(plain)) < 0.8,
        part=np.append(False, random.random(len(plain) - 1) < 0.2),
    )
    bounds = SpeakerBounds(least, least + extra)

    result = found(voices, bounds)

    assert min(least, np.count_nonzero(~voices.part)) <= result.speakers <= bounds.most
    assert sorted(set(result.labels.tolist())) == list(range(result.speakers))
    assert result.similarity.shape == (len(voices), result.speakers)
    assert found(voices, bounds).labels.tolist() == result.labels.tolist()


def partition(score: float | None, likeness: float) -> _Partition:
    return _Partition(np.zeros(1, dtype=np.int64), score, likeness)


def test_of_about_equally_good_numbers_the_largest_is_used() -> None:
    partitions = {2: partition(0.50, 0.1), 3: partition(0.48, 0.2), 4: partition(0.46, 0.3), 5: partition(0.49, 0.4)}

    assert _choose({1: partition(None, -1.0), **partitions}, same_voice=0.39) == 3
    assert _choose({1: partition(None, -1.0), **partitions}, same_voice=0.45) == 5


def test_a_cluster_of_one_piece_does_not_count_for_the_silhouette() -> None:
    pieces = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0]])

    assert _silhouette(np.array([0, 0, 1, 1, 2]), 1.0 - pieces @ pieces.T) == pytest.approx(1.0)


def test_a_low_silhouette_must_be_closer_to_the_best_one_to_count_as_equally_good() -> None:
    partitions = {1: partition(None, -1.0), 2: partition(0.20, 0.5), 3: partition(0.18, 0.6)}

    assert _choose(partitions, same_voice=SAME_VOICE) == 2


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_effect_of_a_channel_on_all_voices_does_not_change_their_number(count: int, share: float) -> None:
    """A codec or clipping moves all embeddings in the same direction, so that voices become more similar."""
    truth = turn_taking(count, 10)
    clean = spoken(truth)
    channel = share * people(1, seed=77)
    heard = replace(clean, embeddings=unit(clean.embeddings + channel).astype(np.float32))

    result = found(heard)

    assert result.speakers == count
    assert adjusted_rand_score(truth, result.labels) == 1.0


def test_similar_voices_with_noisy_pieces_are_distinguished() -> None:
    """Average linkage alone puts nearly all such pieces into one cluster: see the tests of partitions."""
    truth = turn_taking(2, 40)
    first, second = people(2, seed=5)

    result = found(spoken(truth, noise=1.8, voices=unit(np.array([first, second + first]))))

    assert result.speakers == 2
    assert adjusted_rand_score(truth, result.labels) > 0.9


def test_slightly_different_speech_is_a_speaker_only_if_there_is_much_of_it() -> None:
    """A voice that is fairly similar to another one needs more than a second to count as a speaker."""
    first, second = people(2)
    voices = unit(np.array([first, second + 0.8 * first]))
    monologue = spoken([0] * 20, voices=voices)

    assert found(together(monologue, spoken([1], seconds=2.0, voices=voices))).speakers == 1
    assert found(together(monologue, spoken([1] * 10, voices=voices, seed=4))).speakers == 2
