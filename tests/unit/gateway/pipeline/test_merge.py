"""Merging words and turns to utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careca.types import Diarization, Segment, Transcript, Turn, Utterance, Word
from careca_gateway.pipeline.merge import (
    LONG_UTTERANCE_SECONDS,
    MAX_STRAY_WORDS,
    NEAREST_TURN_SECONDS,
    UTTERANCE_PAUSE_SECONDS,
    assign_speakers,
    merge,
    merge_channels,
)

A, B, C = "SPEAKER_00", "SPEAKER_01", "SPEAKER_02"


def words(text: str, start: float = 0.0, step: float = 0.5) -> tuple[Word, ...]:
    """The words of ``text`` in a row, each ``step`` seconds long."""
    return tuple(
        Word(word, start + index * step, start + (index + 1) * step) for index, word in enumerate(text.split())
    )


def segment(*parts: tuple[Word, ...]) -> Segment:
    joined = tuple(word for part in parts for word in part)
    times = [time for word in joined for time in (word.start, word.end) if time is not None]
    return Segment(min(times), max(times), " ".join(word.text for word in joined), joined)


def transcript(*segments: Segment, language: str = "en") -> Transcript:
    return Transcript(segments, language, 1.0, 100.0, "fake")


def diarization(*turns: Turn) -> Diarization:
    return Diarization(turns, turns, 100.0, "fake")


def told(utterances: Sequence[Utterance]) -> list[tuple[str | None, str]]:
    return [(utterance.speaker, utterance.text) for utterance in utterances]


def test_each_word_goes_to_the_speaker_whose_turns_it_overlaps_most() -> None:
    spoken = transcript(segment(words("how are you? fine thanks.")))

    utterances = merge(spoken, diarization(Turn(0.0, 1.6, A), Turn(1.6, 2.5, B)))

    assert told(utterances) == [(A, "how are you?"), (B, "fine thanks.")]
    assert [(utterance.start, utterance.end) for utterance in utterances] == [(0.0, 1.5), (1.5, 2.5)]
    assert [word.speaker for utterance in utterances for word in utterance.words] == [A, A, A, B, B]


def test_a_word_over_two_turns_goes_to_the_longer_overlap() -> None:
    assert assign_speakers([(0.0, 1.0), (1.0, 2.0)], [Turn(0.0, 1.4, A), Turn(1.4, 3.0, B)]) == [A, B]


def test_overlaps_with_one_speaker_are_added() -> None:
    turns = [Turn(0.0, 0.4, A), Turn(0.4, 0.9, B), Turn(0.9, 1.4, A)]

    assert assign_speakers([(0.0, 1.3)], turns) == [A]


def test_a_tie_goes_to_the_speaker_of_the_previous_word() -> None:
    turns = [Turn(0.0, 1.0, A), Turn(1.0, 3.0, B), Turn(3.0, 4.0, A)]

    assert assign_speakers([(0.5, 1.5)], turns) == [A]
    assert assign_speakers([(1.5, 2.0), (2.5, 3.5)], turns) == [B, B]
    assert assign_speakers([(0.0, 0.5), (0.5, 1.5)], turns) == [A, A]


def test_a_word_outside_any_turn_goes_to_the_nearest_edge_and_not_to_the_nearest_middle() -> None:
    turns = [Turn(0.0, 60.0, A), Turn(61.5, 62.0, B)]

    assert assign_speakers([(60.2, 60.4)], turns) == [A]
    assert assign_speakers([(61.0, 61.3)], turns) == [B]


def test_a_word_far_from_any_turn_gets_the_previous_speaker() -> None:
    far = 10.0 + NEAREST_TURN_SECONDS
    turns = [Turn(0.0, 1.0, A), Turn(2.0, 10.0, B), Turn(far + 2.1, far + 3.0, A)]

    assert assign_speakers([(9.0, 9.5), (far + 0.5, far + 1.0)], turns) == [B, B]


def test_the_first_words_have_a_speaker_however_far_the_first_turn_is() -> None:
    assert assign_speakers([(0.0, 0.5), (20.0, 21.0)], [Turn(20.0, 21.0, A)]) == [A, A]


def test_a_word_without_length_goes_to_the_turn_that_it_lies_in() -> None:
    assert assign_speakers([(0.5, 0.5), (2.0, 2.0)], [Turn(0.0, 1.0, A), Turn(1.5, 3.0, B)]) == [A, B]


def test_without_turns_words_have_no_speaker() -> None:
    assert assign_speakers([(0.0, 0.5)], []) == [None]
    assert told(merge(transcript(segment(words("one two"))), diarization())) == [(None, "one two")]


def test_words_without_times_follow_their_neighbours() -> None:
    numbers = (Word("call"), Word("555", None, None), Word("now", 1.0, 1.5))
    spoken = transcript(Segment(0.0, 1.5, "call 555 now", numbers), segment(words("I will.", 2.0)))

    utterances = merge(spoken, diarization(Turn(0.0, 1.6, A), Turn(1.8, 3.0, B)))

    assert told(utterances) == [(A, "call 555 now"), (B, "I will.")]
    assert utterances[0].words[1] == Word("555", None, None, None, A)


def test_segments_without_words_are_split_into_words() -> None:
    spoken = transcript(Segment(0.0, 2.0, "one two three four"))

    assert told(merge(spoken, diarization(Turn(0.0, 1.0, A), Turn(1.0, 2.0, B)))) == [(A, "one two"), (B, "three four")]


def test_stray_words_get_the_speaker_of_their_sentence() -> None:
    spoken = transcript(segment(words("we went to the store. Yes I think so too.")))
    turns = diarization(Turn(0.0, 2.9, A), Turn(2.9, 5.0, B))  # "Yes" begins in the turn of the other

    assert told(merge(spoken, turns)) == [(A, "we went to the store."), (B, "Yes I think so too.")]


def test_a_single_word_of_another_speaker_within_a_sentence_is_smoothed() -> None:
    spoken = transcript(segment(words("we all went to the store together on Monday.")))
    turns = diarization(Turn(0.0, 1.5, A), Turn(1.5, 2.0, B), Turn(2.0, 5.0, A))

    assert [speaker for speaker, _ in told(merge(spoken, turns))] == [A]


def test_a_sentence_without_a_clear_majority_is_left_alone() -> None:
    spoken = transcript(segment(words("one two three four")))

    assert len(merge(spoken, diarization(Turn(0.0, 1.0, A), Turn(1.0, 2.0, B)))) == 2


def test_an_interruption_of_several_words_is_not_smoothed() -> None:
    text = " ".join(["word"] * 20)
    end = 4.0 + (MAX_STRAY_WORDS + 1) * 0.5
    turns = diarization(Turn(0.0, 4.0, A), Turn(4.0, end, B), Turn(end, 10.0, A))

    assert [speaker for speaker, _ in told(merge(transcript(segment(words(text))), turns))] == [A, B, A]


def test_words_are_never_smoothed_across_a_pause() -> None:
    spoken = transcript(segment(words("we went to the store today and"), words("yes", 8.0)))
    turns = diarization(Turn(0.0, 3.5, A), Turn(8.0, 8.5, B))

    assert told(merge(spoken, turns)) == [(A, "we went to the store today and"), (B, "yes")]


def test_an_answer_of_one_word_keeps_its_speaker() -> None:
    spoken = transcript(segment(words("did you go there? Yes. And was it good?")))
    turns = diarization(Turn(0.0, 2.0, A), Turn(2.0, 2.5, B), Turn(2.5, 5.0, A))

    assert [speaker for speaker, _ in told(merge(spoken, turns))] == [A, B, A]


def test_a_long_pause_ends_an_utterance() -> None:
    spoken = transcript(segment(words("one two")), segment(words("three", 1.0 + UTTERANCE_PAUSE_SECONDS)))

    assert told(merge(spoken, diarization(Turn(0.0, 10.0, A)))) == [(A, "one two"), (A, "three")]


def test_a_monologue_is_split_into_paragraphs() -> None:
    sentence = "this is one sentence of a talk."
    count = int(3 * LONG_UTTERANCE_SECONDS / 3.5)
    spoken = transcript(segment(words(" ".join([sentence] * count))))

    utterances = merge(spoken, diarization(Turn(0.0, 200.0, A)))

    assert 2 < len(utterances) <= 4
    assert all(utterance.text.endswith("talk.") for utterance in utterances)


def test_without_a_diarization_each_segment_is_an_utterance_without_a_speaker() -> None:
    first, second = segment(words("one two")), Segment(5.0, 6.0, " three ")

    utterances = merge(transcript(first, second, Segment(7.0, 8.0, " ")), None)

    assert told(utterances) == [(None, "one two"), (None, "three")]
    assert utterances[0].words == first.words


def test_no_words_give_no_utterances() -> None:
    assert merge(transcript(), diarization(Turn(0.0, 1.0, A))) == ()
    assert merge(transcript(), None) == ()


def test_spaces_are_taken_from_the_text() -> None:
    chinese = Segment(0.0, 2.0, "你好。再见", (Word("你好。", 0.0, 1.0), Word("再见", 1.0, 2.0)))
    following = Segment(2.0, 3.0, "谢谢", (Word("谢谢", 2.0, 3.0),))

    utterances = merge(transcript(chinese, following, language="zh"), diarization(Turn(0.0, 5.0, A)))

    assert told(utterances) == [(A, "你好。再见谢谢")]


def in_language(code: str, spoken: Segment) -> Segment:
    return replace(spoken, language=code)


def languages(utterances: Sequence[Utterance]) -> list[tuple[str, str]]:
    return [(utterance.language, utterance.text) for utterance in utterances]


def test_an_utterance_ends_where_its_speaker_changes_the_language() -> None:
    english = in_language("en", segment(words("good morning and", 0.0)))
    portuguese = in_language(
        "pt",
        segment(words("bom dia a todos.", 1.5)),
    )

    utterances = merge(transcript(english, portuguese), diarization(Turn(0.0, 5.0, A)))

    assert told(utterances) == [(A, "good morning and"), (A, "bom dia a todos.")]
    assert [utterance.language for utterance in utterances] == ["en", "pt"]


def test_words_are_never_given_to_another_speaker_for_a_sentence_in_another_language() -> None:
    english = in_language("en", segment(words("one two three four five six", 0.0)))
    spanish = in_language("es", segment(words("gracias", 3.0)))

    utterances = merge(transcript(english, spanish), diarization(Turn(0.0, 3.0, A), Turn(3.0, 3.5, B)))

    assert told(utterances) == [(A, "one two three four five six"), (B, "gracias")]


def test_segments_in_one_language_are_one_utterance() -> None:
    spoken = [in_language("en", segment(words(text, start))) for text, start in (("one two", 0.0), ("three", 1.0))]

    assert languages(merge(transcript(*spoken), diarization(Turn(0.0, 5.0, A)))) == [("en", "one two three")]
    assert languages(merge(transcript(*spoken), None)) == [("en", "one two"), ("en", "three")]


def test_a_segment_that_names_no_language_is_in_that_of_its_transcript() -> None:
    spoken = transcript(segment(words("bom dia")), language="pt")

    assert languages(merge(spoken, diarization(Turn(0.0, 5.0, A)))) == [("pt", "bom dia")]
    assert languages(merge(spoken, None)) == [("pt", "bom dia")]


def test_segments_are_joined_as_their_language_needs() -> None:
    chinese = [in_language("zh", Segment(n, n + 1.0, text, (Word(text, n, n + 1.0),))) for n, text in enumerate("你好")]
    english = [in_language("en", segment(words(text, start))) for text, start in (("hello", 2.0), ("there", 2.5))]

    utterances = merge(transcript(*chinese, *english, language="en"), diarization(Turn(0.0, 5.0, A)))

    assert languages(utterances) == [("zh", "你好"), ("en", "hello there")]


def test_a_translation_has_spaces_for_any_spoken_language() -> None:
    spoken = [in_language("ja", segment(words(text, start))) for text, start in (("good", 0.0), ("morning", 0.5))]

    assert languages(merge(transcript(*spoken, language="ja"), diarization(Turn(0.0, 5.0, A)))) == [
        ("ja", "good morning")
    ]


times = st.floats(0.0, 60.0, allow_nan=False)
spoken_words = st.builds(
    lambda text, start, length, timed: Word(text, start, start + length) if timed else Word(text),
    st.sampled_from(["yes", "no.", "well,", "go?", "数字", ""]),
    times,
    st.floats(0.0, 3.0),
    st.booleans(),
)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    bounds = sorted(draw(st.lists(times, min_size=0, max_size=12)))
    segments = [
        Segment(start, end, " ".join(word.text for word in said), said)
        for start, end in pairwise(bounds)
        if (said := tuple(draw(st.lists(spoken_words, min_size=1, max_size=8))))
    ]
    return transcript(*segments)


@st.composite
def diarizations(draw: st.DrawFn) -> Diarization:
    bounds = sorted(draw(st.lists(times, min_size=0, max_size=16)))
    pairs = zip(bounds[::2], bounds[1::2], strict=False)
    return diarization(*(Turn(start, end, draw(st.sampled_from([A, B, C]))) for start, end in pairs))


@given(transcripts(), diarizations())
@settings(deadline=None, max_examples=300)
def test_every_word_appears_once_and_in_order_for_any_input(spoken: Transcript, turns: Diarization) -> None:
    utterances = merge(spoken, turns)

    assert [(word.text, word.start, word.end) for utterance in utterances for word in utterance.words] == [
        (word.text, word.start, word.end) for part in spoken.segments for word in part.words
    ]
    starts = [utterance.start for utterance in utterances]
    assert starts == sorted(starts)
    assert all(utterance.start <= utterance.end for utterance in utterances)
    assert {utterance.speaker for utterance in utterances} - {None} <= {turn.speaker for turn in turns.turns}
    assert all(word.speaker == utterance.speaker for utterance in utterances for word in utterance.words)
    assert bool(turns.turns) == all(utterance.speaker for utterance in utterances) or not utterances
    assert merge(spoken, turns) == utterances


class CountingTurns(Sequence[Turn]):
    """Counts how often a turn is read."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = turns
        self.looks = 0

    def __len__(self) -> int:
        return len(self._turns)

    def __getitem__(self, index: int) -> Turn:  # type: ignore[override]
        self.looks += 1
        return self._turns[index]


@pytest.mark.parametrize("count", [1_000, 10_000])
def test_assigning_speakers_takes_linear_time(count: int) -> None:
    turns = CountingTurns([Turn(index * 1.0, index + 0.8, A if index % 2 else B) for index in range(count)])
    spoken = [(index / 3, index / 3 + 0.3) for index in range(3 * count)]

    assert len(assign_speakers(spoken, turns)) == 3 * count
    assert turns.looks < 8 * (len(spoken) + count)


def test_a_day_of_speech_is_merged_within_the_time_limit_of_a_test() -> None:
    spoken = transcript(*(segment(words("so this is what we say.", start * 3.0)) for start in range(28_800)))
    turns = diarization(*(Turn(start * 3.0, start * 3.0 + 3.0, (A, B, C)[start % 3]) for start in range(28_800)))

    assert sum(len(utterance.words) for utterance in merge(spoken, turns)) == 28_800 * 6


def test_all_words_of_a_channel_are_its_speakers() -> None:
    agent = transcript(segment(words("how can I help?", 0.0)))
    caller = transcript(segment(words("my line is dead.", 3.0)))

    utterances = merge_channels((caller, agent), (B, A))

    assert told(utterances) == [(A, "how can I help?"), (B, "my line is dead.")]
    assert {word.speaker for word in utterances[0].words} == {A}


def test_overlapping_sentences_are_not_split() -> None:
    agent = transcript(segment(words("one two three four five six", 0.0)))
    caller = transcript(segment(words("no please wait", 1.1, step=0.3)))

    utterances = merge_channels((agent, caller), (A, B))

    assert told(utterances) == [(A, "one two three four five six"), (B, "no please wait")]
    assert utterances[1].start < utterances[0].end


def test_an_answer_in_a_pause_splits_the_utterance_around_it() -> None:
    agent = transcript(segment(words("is it raining?", 0.0), words("then stay.", 3.0)))
    caller = transcript(segment(words("yes.", 1.6)))

    assert told(merge_channels((agent, caller), (A, B))) == [(A, "is it raining?"), (B, "yes."), (A, "then stay.")]


def test_a_word_that_is_only_partly_in_a_pause_splits_nothing() -> None:
    agent = transcript(segment(words("is it", 0.0), words("raining?", 1.2)))
    caller = transcript(segment(words("hm", 0.8, step=1.0)))

    assert told(merge_channels((agent, caller), (A, B))) == [(A, "is it raining?"), (B, "hm")]


def test_a_channel_without_words_adds_nothing() -> None:
    agent = transcript(segment(words("hello?", 0.0)))

    assert told(merge_channels((transcript(), agent, transcript()), (None, A, None))) == [(A, "hello?")]
    assert merge_channels((transcript(), transcript()), (None, None)) == ()


def test_each_channel_has_the_spaces_of_its_language() -> None:
    chinese = transcript(segment(words("\u4f60 \u597d", 0.0)), segment(words("\u518d \u89c1", 1.0)), language="zh")
    english = transcript(segment(words("hello there", 3.0)))

    assert told(merge_channels((chinese, english), (A, B)))[1] == (B, "hello there")


@given(st.lists(st.lists(st.tuples(st.floats(0, 30), st.floats(0.01, 3)), max_size=8), min_size=1, max_size=4))
def test_every_word_of_every_channel_appears_once(channels: list[list[tuple[float, float]]]) -> None:
    transcripts = [
        transcript(
            *(
                Segment(start, start + length, f"{number}-{index}", (Word(f"{number}-{index}", start, start + length),))
                for index, (start, length) in enumerate(sorted(own))
            )
        )
        for number, own in enumerate(channels)
    ]
    speakers = [f"SPEAKER_{number:02d}" for number in range(len(channels))]

    utterances = merge_channels(transcripts, speakers)

    assert [utterance.start for utterance in utterances] == sorted(utterance.start for utterance in utterances)
    for number, own in enumerate(channels):
        written = [word.text for each in utterances if each.speaker == speakers[number] for word in each.words]
        assert written == [f"{number}-{index}" for index in range(len(own))]
