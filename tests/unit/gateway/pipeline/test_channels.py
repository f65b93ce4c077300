"""Combining what was found on channels with one speaker each."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca.types import Diarization, Segment, Speaker, SpeakerCountCandidate, Transcript, Turn
from careca_gateway.pipeline.channels import combine_diarizations, label_channels, main_transcript

A, B, C = "SPEAKER_00", "SPEAKER_01", "SPEAKER_02"
SILENCE = Diarization((), (), 60.0, "fake")
NOTHING = Transcript((), "", 0.0, 60.0, "fake")


def channel(*times: tuple[float, float]) -> Diarization:
    """Returns one channel's turns, as a diarizer finds them for one speaker."""
    turns = tuple(Turn(start, end, A) for start, end in times)
    return Diarization(turns, turns, 60.0, "fake", (SpeakerCountCandidate(1, None),))


def said(*texts: str, start: float = 0.0, language: str = "en") -> Transcript:
    """Returns one channel's words, with a segment for each of ``texts``."""
    segments = tuple(Segment(start + index, start + index + 1, text) for index, text in enumerate(texts))
    return Transcript(segments, language, 1.0, 60.0, "fake")


def test_labels_follow_first_speech_and_not_the_order_of_channels() -> None:
    assert label_channels(None, (channel((5.0, 6.0)), channel((7.0, 8.0), (1.0, 2.0)))) == (B, A)


def test_of_two_speakers_that_start_together_the_one_that_ends_first_comes_first() -> None:
    diarizations = (channel((1.0, 2.0)), channel((1.0, 1.5)), channel((1.0, 2.0)))

    speakers = label_channels(None, diarizations)

    assert speakers == (B, A, C)
    assert [each.label for each in combine_diarizations(diarizations, speakers).speakers] == [A, B, C]


def test_each_channels_speaker_has_its_voice_unless_it_has_no_turn() -> None:
    """On the third channel there are only words."""
    voices = [(1.0, 0.0), (0.0, 1.0)]
    diarizations = [
        replace(channel((start, 9.0)), speakers=(Speaker(A, voice, "voices@1"),))
        for start, voice in zip((5.0, 1.0), voices, strict=True)
    ]

    whole = combine_diarizations((*diarizations, SILENCE, SILENCE), (B, A, C, None))

    assert whole.speakers == (Speaker(A, voices[1], "voices@1"), Speaker(B, voices[0], "voices@1"), Speaker(C))


def test_a_silent_channel_has_no_speaker() -> None:
    diarizations = (SILENCE, channel((5.0, 6.0)), SILENCE, channel((1.0, 2.0)))
    transcripts = (NOTHING, said("hello", start=5.0), said(" "), said("good morning", start=1.0))

    assert label_channels(transcripts, diarizations) == (None, B, None, A)
    assert label_channels((NOTHING, NOTHING), (SILENCE, SILENCE)) == (None, None)


def test_turns_and_not_words_decide_who_spoke_first() -> None:
    transcripts = (said("hello", start=0.5), said("good morning", start=0.9))

    assert label_channels(transcripts, (channel((1.0, 2.0)), channel((0.8, 2.0)))) == (B, A)


def test_a_channel_with_words_and_no_turn_has_a_speaker() -> None:
    assert label_channels((said("hm", start=0.5), said("hello", start=1.0)), (SILENCE, channel((1.0, 2.0)))) == (A, B)


def test_without_diarizations_words_decide_the_labels() -> None:
    assert label_channels((said("hello", start=5.0), NOTHING, said("hi", start=1.0)), None) == (B, None, A)


def test_turns_of_all_channels_are_put_in_order_and_keep_their_overlaps() -> None:
    diarizations = (channel((5.0, 9.0), (20.0, 21.0)), SILENCE, channel((1.0, 6.0), (7.0, 8.0)))

    whole = combine_diarizations(diarizations, (B, None, A))

    assert whole.turns == (Turn(1.0, 6.0, A), Turn(5.0, 9.0, B), Turn(7.0, 8.0, A), Turn(20.0, 21.0, B))
    exclusive = (Turn(1.0, 5.0, A), Turn(5.0, 7.0, B), Turn(7.0, 8.0, A), Turn(8.0, 9.0, B), Turn(20.0, 21.0, B))
    assert whole.exclusive_turns == exclusive
    assert [each.label for each in whole.speakers] == [A, B]
    assert (whole.duration, whole.model, whole.candidates) == (60.0, "fake", ())


def test_the_language_is_that_of_the_channel_with_the_most_words() -> None:
    few, many = said("one two three"), said("um dois", "três quatro", language="pt")

    assert main_transcript((few, many)) is many
    assert main_transcript((few, few, NOTHING)) is few
    assert main_transcript((NOTHING, NOTHING)).language == ""


times = st.lists(
    st.tuples(st.floats(0, 50), st.floats(0.1, 9)).map(lambda each: (each[0], each[0] + each[1])), max_size=6
)


@given(st.lists(times, min_size=2, max_size=5))
def test_every_turn_stays_with_its_channel_and_labels_follow_first_speech(
    channels: list[list[tuple[float, float]]],
) -> None:
    diarizations = [channel(*each) for each in channels]

    speakers = label_channels(None, diarizations)
    whole = combine_diarizations(diarizations, speakers)

    labels = [f"SPEAKER_{number:02d}" for number in range(sum(map(bool, channels)))]
    assert [each.label for each in whole.speakers] == labels
    for own, speaker in zip(channels, speakers, strict=True):
        assert bool(speaker) == bool(own)
        assert [(turn.start, turn.end) for turn in whole.turns if turn.speaker == speaker] == sorted(own)
    assert all(one.end <= following.start for one, following in pairwise(whole.exclusive_turns))


@pytest.mark.parametrize("count", [1, 2, 8])
def test_every_channel_has_an_entry(count: int) -> None:
    assert len(label_channels((NOTHING,) * count, (SILENCE,) * count)) == count
