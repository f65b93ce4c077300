"""Naming speakers by the similarity of voices."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca.errors import InvalidRequest
from careca.types import Diarization, Speaker, Turn, Voice
from careca_gateway.pipeline.speaker_naming import (
    KnownVoice,
    apply_names,
    best_similarity,
    check_comparable,
    cosine_similarity,
    incomparable,
    recognize_speakers,
)

MODEL = "voices@1"


def voice(degrees: float) -> tuple[float, float]:
    """A voice at this angle: the cosine similarity of two voices is that of the angle between them."""
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def heard(*degrees: float) -> tuple[Speaker, ...]:
    return tuple(Speaker(f"SPEAKER_{number:02}", voice(each), MODEL) for number, each in enumerate(degrees))


def people(**degrees: float) -> list[KnownVoice]:
    return [KnownVoice(name, Voice(voice(each), MODEL)) for name, each in degrees.items()]


def names(speakers: tuple[Speaker, ...]) -> list[str | None]:
    return [speaker.name for speaker in speakers]


def test_each_speaker_gets_the_name_of_the_similar_voice() -> None:
    speakers = recognize_speakers(heard(0, 90), people(ana=100, bob=5), least_similarity=0.5)

    assert names(speakers) == ["bob", "ana"]
    assert [speaker.similarity for speaker in speakers] == pytest.approx(
        [math.cos(math.radians(5)), math.cos(math.radians(10))]
    )
    assert [speaker.label for speaker in speakers] == ["SPEAKER_00", "SPEAKER_01"]
    assert [speaker.embedding for speaker in speakers] == [voice(0), voice(90)]


def test_a_speaker_below_the_minimum_similarity_gets_no_name() -> None:
    (speaker,) = recognize_speakers(heard(0), people(ana=61), least_similarity=0.5)

    assert (speaker.name, speaker.similarity) == (None, None)
    assert names(recognize_speakers(heard(0), people(ana=59), least_similarity=0.5)) == ["ana"]


def test_exactly_the_minimum_similarity_is_enough() -> None:
    speakers = (Speaker("SPEAKER_00", (1.0, 0.0), MODEL),)

    assert names(
        recognize_speakers(speakers, [KnownVoice("ana", Voice((0.5, 0.75), MODEL))], least_similarity=0.5)
    ) == ["ana"]


def test_a_name_goes_only_to_the_most_similar_speaker() -> None:
    assert names(recognize_speakers(heard(20, 10, 15), people(ana=0), least_similarity=0.5)) == [None, "ana", None]


def test_a_speaker_gets_only_the_most_similar_name() -> None:
    assert names(recognize_speakers(heard(0), people(ana=20, bob=10), least_similarity=0.5)) == ["bob"]


def test_a_speaker_can_get_the_second_most_similar_name() -> None:
    assert names(recognize_speakers(heard(10, 5), people(ana=0, bob=40), least_similarity=0.5)) == ["bob", "ana"]


def test_the_most_similar_pair_comes_first_even_if_others_stay_unnamed() -> None:
    assert names(recognize_speakers(heard(0, 70), people(ana=10, bob=-55), least_similarity=0.5)) == ["ana", None]


def test_ties_are_decided_by_the_order_of_speakers_and_names() -> None:
    assert names(recognize_speakers(heard(0, 0), people(ana=0, bob=0), least_similarity=0.5)) == ["ana", "bob"]
    assert names(recognize_speakers(heard(0, 0, 0), people(ana=0), least_similarity=0.5)) == ["ana", None, None]


def test_a_speaker_without_a_voice_stays_unnamed() -> None:
    speakers = (Speaker("SPEAKER_00"), *heard(0))

    assert names(recognize_speakers(speakers, people(ana=0), least_similarity=0.5)) == [None, "ana"]


def test_without_known_people_or_speakers_nothing_changes() -> None:
    assert recognize_speakers(heard(0, 90), [], least_similarity=0.5) == heard(0, 90)
    assert recognize_speakers((), people(ana=0), least_similarity=0.5) == ()


angles = st.lists(st.integers(0, 359), max_size=6)


@given(angles, angles, st.sampled_from([0.1, 0.5, 0.9]))
def test_names_are_unique_and_similar_for_any_voices(speaking: list[int], known: list[int], least: float) -> None:
    whom = people(**{f"p{number}": each for number, each in enumerate(known)})

    speakers = recognize_speakers(heard(*speaking), whom, least_similarity=least)

    given_names = [name for name in names(speakers) if name]
    assert len(given_names) == len(set(given_names))
    voices = {each.name: each.voice for each in whom}
    for speaker in speakers:
        if speaker.name:
            assert speaker.similarity == cosine_similarity(speaker.embedding, voices[speaker.name].embedding) >= least
    free = [each for each in whom if each.name not in given_names]
    unnamed = [speaker for speaker in speakers if not speaker.name]
    assert all(cosine_similarity(one.embedding, other.voice.embedding) < least for one in unnamed for other in free)


def test_the_order_of_known_people_decides_only_ties() -> None:
    whom = people(ana=3, bob=40, eve=95)

    found = {
        tuple(names(recognize_speakers(heard(90, 1, 45), list(order), least_similarity=0.5)))
        for order in permutations(whom)
    }

    assert found == {("eve", "ana", "bob")}


def test_voices_of_another_model_are_refused_by_field_with_both_models() -> None:
    known = [*people(ana=0), KnownVoice("bob", Voice(voice(0), "voices@2"))]

    with pytest.raises(InvalidRequest) as refusal:
        check_comparable(heard(0), known)

    assert refusal.value.reason == "EMBEDDING_MISMATCH"
    assert refusal.value.field == "config.known_speakers[1].voice.embedding_model"
    assert "voices@2" in refusal.value.message
    assert MODEL in refusal.value.message


def test_embeddings_of_another_size_are_refused_by_field() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        check_comparable(heard(0), [KnownVoice("ana", Voice((1.0, 0.0, 0.0), MODEL))])

    assert refusal.value.field == "config.known_speakers[0].voice.embedding"


def test_without_voices_any_model_is_accepted() -> None:
    check_comparable((Speaker("SPEAKER_00"),), [KnownVoice("ana", Voice(voice(0), "voices@2"))])


OTHER_MODEL = KnownVoice("old", Voice(voice(0), "voices@0"), skip_if_incomparable=True)
OTHER_SIZE = KnownVoice("long", Voice((1.0, 0.0, 0.0), MODEL), skip_if_incomparable=True)
SAME = KnownVoice("ana", Voice(voice(0), MODEL), skip_if_incomparable=True)


def test_voices_that_may_be_skipped_are_skipped_if_they_cannot_be_compared() -> None:
    known = [OTHER_MODEL, SAME, *people(bob=0), OTHER_SIZE]

    check_comparable(heard(0), known)
    assert incomparable(heard(0), known) == {"old", "long"}


def test_without_voices_in_the_recording_all_that_may_be_are_skipped() -> None:
    assert incomparable((Speaker("SPEAKER_00"),), [SAME, *people(bob=0)]) == {"ana"}
    assert incomparable((), [SAME, OTHER_MODEL]) == set()


def test_the_best_similarity_is_that_of_the_most_similar_voice() -> None:
    (speaker,) = heard(0)

    assert best_similarity(speaker, people(ana=120, bob=60, eve=180)) == pytest.approx(0.5)


def test_turns_get_names_and_speakers_keep_their_labels() -> None:
    turns = (Turn(0.0, 1.0, "SPEAKER_00"), Turn(0.5, 2.0, "SPEAKER_01"))
    speakers = (Speaker("SPEAKER_00", name="Ana", similarity=0.75), Speaker("SPEAKER_01"))

    named = apply_names(Diarization(turns, turns[:1], 2.0, "model", speakers=speakers))

    assert [turn.speaker for turn in named.turns] == ["Ana", "SPEAKER_01"]
    assert [turn.speaker for turn in named.exclusive_turns] == ["Ana"]
    assert named.speakers == speakers
