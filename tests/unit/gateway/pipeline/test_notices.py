"""Notices that follow from the request and from what the models found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca.types import (
    AudioTracks,
    ChannelMode,
    Diarization,
    DiarizationOptions,
    Digest,
    Notice,
    NoticeCode,
    Segment,
    Transcript,
    Turn,
    Word,
)
from careca_gateway.pipeline.notices import LEAST_SPEECH_SECONDS, MAX_PLACES, collect_notices
from careca_gateway.request import Request

A, B = "SPEAKER_00", "SPEAKER_01"
RECORDING = Digest("a" * 64, 1000)
REQUEST = Request(RECORDING)
SEPARATE = Request(RECORDING, channel_mode=ChannelMode.SEPARATE)
EACH_TRACK = Request(RECORDING, audio_track=AudioTracks.EACH)

Times = tuple[float, float]


def written(*words: Times, language: str = "en") -> Segment:
    """A segment with words at these times."""
    each = tuple(Word(f"word{number}", *times) for number, times in enumerate(words))
    text = " ".join(word.text for word in each)
    return Segment(words[0][0], words[-1][1], text, each, language)


def transcript(*segments: Segment) -> Transcript:
    return Transcript(segments, "en", 0.9, 60.0, "whisper@1")


def heard(*turns: tuple[float, float] | tuple[float, float, str]) -> Diarization:
    every = tuple(Turn(*turn) if len(turn) == 3 else Turn(*turn, A) for turn in turns)
    return Diarization(every, every, 60.0, "segmentation@1")


def places(*segments: Segment, turns: Diarization) -> list[tuple[float | None, ...]]:
    """The times of speech without words."""
    found = collect_notices(REQUEST, [transcript(*segments)], [turns])
    assert {notice.code for notice in found} <= {NoticeCode.SPEECH_WITHOUT_WORDS}
    return [(notice.start, notice.end) for notice in found]


def test_no_notice_if_all_speech_has_words() -> None:
    words = written((0.1, 0.6), (0.8, 1.5), (2.0, 3.0), (4.5, 5.0))

    assert collect_notices(REQUEST, [transcript(words)], [heard((0.0, 5.0))]) == ()


def test_speech_without_words_is_noticed_with_its_time_and_length() -> None:
    found = collect_notices(REQUEST, [transcript(written((10.6, 11.0)))], [heard((0.0, 10.5), (10.6, 11.0, B))])

    assert found == (
        Notice("SPEECH_WITHOUT_WORDS", "speech of 10.5 s is heard, but no words were found in it", 0.0, 10.5),
    )


def test_a_gap_between_two_words_of_one_turn_is_noticed() -> None:
    assert places(written((0.0, 1.0), (9.0, 10.0)), turns=heard((0.0, 10.0))) == [(1.0, 9.0)]


@pytest.mark.parametrize(("seconds", "told"), [(1.9, False), (2.0, True), (2.1, True)])
def test_two_seconds_are_enough(seconds: float, told: bool) -> None:
    found = places(written((0.0, 1.0)), turns=heard((0.0, 1.0), (7.3, 7.3 + seconds)))

    assert found == ([(7.3, 7.3 + seconds)] if told else [])


def test_consecutive_turns_of_several_people_are_one_place() -> None:
    assert places(turns=heard((5.0, 6.5), (6.7, 7.9, B), (7.5, 8.2))) == [(5.0, 8.2)]


def test_a_short_pause_is_bridged_and_does_not_count_as_speech() -> None:
    assert places(turns=heard((0.0, 1.1), (1.9, 3.0, B))) == [(0.0, 3.0)]
    assert places(turns=heard((0.0, 0.9), (1.7, 2.7))) == []


def test_a_long_pause_or_a_word_separates_two_places() -> None:
    assert places(turns=heard((0.0, 3.0), (4.1, 7.1))) == [(0.0, 3.0), (4.1, 7.1)]
    assert places(written((3.1, 3.4)), turns=heard((0.0, 3.0), (3.5, 6.5))) == [(0.0, 3.0), (3.5, 6.5)]


def test_overlapping_speech_with_words_of_one_person_is_not_noticed() -> None:
    words = written(*((second, second + 0.9) for second in range(10)))

    assert places(words, turns=heard((0.0, 10.0), (3.0, 6.0, B))) == []


def test_a_segment_without_word_times_has_words_everywhere() -> None:
    assert places(Segment(0.0, 5.0, "you said it"), turns=heard((0.0, 5.0))) == []
    assert places(Segment(0.0, 5.0, "  "), turns=heard((0.0, 5.0))) == [(0.0, 5.0)]


def test_a_word_without_times_lies_between_its_neighbours() -> None:
    words = (Word("one", 0.0, 1.0), Word("two"), Word("three", 7.0, 8.0))

    assert places(Segment(0.0, 8.0, "one two three", words), turns=heard((0.0, 8.0))) == []


def test_the_longest_places_have_their_own_notices_and_the_rest_have_one() -> None:
    lengths = [2.0 + 0.5 * (number % 7) for number in range(MAX_PLACES + 5)]
    turns = heard(*((20.0 * number, 20.0 * number + length) for number, length in enumerate(lengths)))

    found = collect_notices(REQUEST, [transcript()], [turns])

    assert len(found) == MAX_PLACES + 1
    (rest,) = (notice for notice in found if "more places" in notice.message)
    alone = [notice.end - notice.start for notice in found if notice is not rest]  # type: ignore[operator]
    shortest = sorted(lengths)[:5]
    assert sorted(alone) == pytest.approx(sorted(lengths)[5:])
    assert f"in 5 more places, {sum(shortest):.1f} s in all" in rest.message
    assert rest.start is not None
    assert rest.end is not None
    assert rest.start < rest.end
    assert [notice.start for notice in found] == sorted(notice.start for notice in found)  # type: ignore[type-var]


@pytest.mark.parametrize(("request_", "second"), [(SEPARATE, "channel 2"), (EACH_TRACK, "audio track 2")])
def test_separate_channels_and_tracks_are_checked_separately(request_: Request, second: str) -> None:
    found = collect_notices(request_, [transcript(written((0.0, 9.0))), transcript()], [heard((0.0, 9.0))] * 2)

    assert [(notice.message, notice.start, notice.end) for notice in found] == [
        (f"speech of 9.0 s is heard on {second}, but no words were found in it", 0.0, 9.0)
    ]


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (DiarizationOptions(speaker_count=50), "50 speakers were asked for, but 2 could be found: "),
        (DiarizationOptions(min_speaker_count=3), "at least 3 speakers were asked for, but 2 could be found: "),
        (
            DiarizationOptions(min_speaker_count=3, max_speaker_count=4),
            "at least 3 speakers were asked for, but 2 could be found: ",
        ),
    ],
)
def test_fewer_speakers_than_requested_are_noticed(asked: DiarizationOptions, sentence: str) -> None:
    (found,) = collect_notices(Request(RECORDING, diarization=asked), None, [heard((0.0, 1.0), (1.0, 2.0, B))])

    assert (found.code, found.start, found.end) == (NoticeCode.FEWER_SPEAKERS_THAN_ASKED, None, None)
    assert found.message == f"{sentence}there is too little speech to tell more voices apart"


def test_no_speech_is_noticed_if_several_speakers_were_requested() -> None:
    asked = Request(RECORDING, diarization=DiarizationOptions(speaker_count=2))

    (found,) = collect_notices(asked, None, [heard()])

    assert found.message == "2 speakers were asked for, but none could be found: no speech was heard"


@pytest.mark.parametrize(
    "asked",
    [
        DiarizationOptions(),
        DiarizationOptions(speaker_count=2),
        DiarizationOptions(min_speaker_count=1, max_speaker_count=2),
        DiarizationOptions(max_speaker_count=9),
    ],
)
def test_no_notice_if_enough_speakers_were_found(asked: DiarizationOptions) -> None:
    assert collect_notices(Request(RECORDING, diarization=asked), None, [heard((0.0, 1.0), (1.0, 2.0, B))]) == ()


def test_a_silent_channel_is_not_a_missing_speaker() -> None:
    assert (
        collect_notices(SEPARATE, [transcript(written((0.0, 1.0))), transcript()], [heard((0.0, 1.0)), heard()]) == ()
    )


def test_several_languages_are_noticed_in_order_of_time() -> None:
    segments = (
        written((0.5, 1.0), language="pt"),
        written((2.0, 3.0), language="en"),
        written((4.0, 5.0), language="pt"),
        written((10.6, 11.0), language="es"),
    )

    (found,) = collect_notices(REQUEST, [transcript(*segments)], None)

    assert (found.code, found.start, found.end) == (NoticeCode.SEVERAL_LANGUAGES, None, None)
    assert found.message == (
        "3 languages are spoken: Portuguese (pt) from 00:00:00.500, English (en) from 00:00:02.000,"
        " Spanish (es) from 00:00:10.600"
    )


def test_channels_in_different_languages_are_noticed() -> None:
    each = [transcript(written((2.0, 3.0), language="en")), transcript(written((0.0, 1.0), language="pt"))]

    (found,) = collect_notices(SEPARATE, each, None)

    assert "Portuguese (pt) from 00:00:00.000, English (en) from 00:00:02.000" in found.message


def test_segments_without_a_language_do_not_count() -> None:
    segments = (written((0.5, 1.0), language="pt"), written((2.0, 3.0), language=""), Segment(4.0, 5.0, " ", (), "en"))

    assert collect_notices(REQUEST, [transcript(*segments)], None) == ()


def test_notices_that_need_a_failed_stage_are_omitted() -> None:
    asked = Request(RECORDING, diarization=DiarizationOptions(speaker_count=9))

    assert collect_notices(asked, [transcript()], None) == ()
    assert [notice.code for notice in collect_notices(asked, None, [heard((0.0, 50.0))])] == [
        "FEWER_SPEAKERS_THAN_ASKED"
    ]


def test_notices_about_the_whole_recording_come_first_then_all_others_by_time() -> None:
    clipped, damaged = Notice("OF_ALL", "all of it"), Notice("OF_A_PART", "a part", 4.0, 4.5)
    turns = heard((0.0, 3.0), (10.0, 13.0))
    asked = Request(RECORDING, diarization=DiarizationOptions(speaker_count=2))

    found = collect_notices(asked, [transcript()], [turns], [damaged, clipped])

    assert [(notice.code, notice.start) for notice in found] == [
        ("OF_ALL", None),
        ("FEWER_SPEAKERS_THAN_ASKED", None),
        ("SPEECH_WITHOUT_WORDS", 0.0),
        ("OF_A_PART", 4.0),
        ("SPEECH_WITHOUT_WORDS", 10.0),
    ]


STEPS = st.integers(0, 60).map(lambda step: step / 4)


@given(
    st.lists(st.tuples(STEPS, st.sampled_from([0.25, 0.5, 2.0, 3.5])), max_size=8),
    st.lists(st.tuples(STEPS, st.sampled_from([0.0, 0.25, 0.5])), max_size=12),
)
def test_any_two_seconds_of_speech_have_words_or_a_notice(turns: list[Times], words: list[Times]) -> None:
    """Compared with a count in steps of an eighth of a second."""
    spoken = heard(*((start, start + length) for start, length in turns))
    said = written(*sorted((start, start + length) for start, length in words)) if words else Segment(0.0, 0.0, "")

    found = collect_notices(REQUEST, [transcript(said)], [spoken])

    told = [(notice.start or 0.0, notice.end or 0.0) for notice in found]
    run = 0
    for step in range(8 * 20):
        middle = (step + 0.5) / 8
        silent = not any(start < middle < end for start, end in ((turn.start, turn.end) for turn in spoken.turns))
        in_word = any(start <= step / 8 < end for start, end in ((w.start or 0, w.end or 0) for w in said.words))
        at_word = any(word.start == step / 8 for word in said.words)
        run = 0 if silent or in_word else 1 if at_word else run + 1
        if run >= 8 * LEAST_SPEECH_SECONDS and len(told) < MAX_PLACES:
            assert any(start <= middle <= end for start, end in told)
    for start, end in told:
        assert end - start >= LEAST_SPEECH_SECONDS
        assert not any(start < (word.start or 0) and (word.end or 0) < end for word in said.words)


def test_voices_that_were_skipped_are_named_in_one_notice_about_the_whole_recording() -> None:
    found = collect_notices(REQUEST, [transcript()], [heard((0.0, 5.0))], skipped_voices={"Zoe", "Ana"})

    assert [notice.code for notice in found] == [NoticeCode.VOICES_SKIPPED, NoticeCode.SPEECH_WITHOUT_WORDS]
    assert (found[0].start, found[0].message.endswith(": Ana, Zoe")) == (None, True)
