"""What a live session tells, from the first message to the result: real servers, decoding and Redis."""

from __future__ import annotations

from itertools import pairwise

import pytest

from careca import codec
from careca.types import SchedulingClass
from integration.gateway.live.conftest import Sessions
from support.live import (
    BYTES_PER_SECOND,
    Heard,
    LiveClient,
    Said,
    SpokenTranscriber,
    assert_numbered,
    assert_speakers,
    assert_told,
    pace,
    spoken,
    spoken_words,
    wav_of,
    word,
    words,
)
from support.stack import Stack

TALK: list[Said | float] = [
    0.5,
    *words(0, 1, 6),
    1.2,
    *words(1, 101, 6),
    0.4,
    *words(0, 11, 6),
    1.5,
    *words(1, 111, 8, 0.3),
    1.0,
]
"""Two people with pauses, of which some end an utterance."""

MONOLOGUE = words(0, 1, 100, 0.37)
"""37 s without a pause: windows must slide."""


async def whole_at_the_pace_of_speech(client: LiveClient, sessions: Sessions, data: bytes, **config: object) -> Heard:
    live = await client.begin(**config)
    session = await sessions.of(live)
    await pace(live, data, session)
    await live.end()
    return await live.ended()


async def test_each_word_is_told_once_with_its_times(client: LiveClient) -> None:
    heard = await client.whole(spoken(TALK))

    assert_told(heard, TALK)
    assert_numbered(heard)
    assert heard.kinds[0] == "started"
    assert heard.kinds[-2:] == ["ended", "result"]
    assert heard.job_id


async def test_it_is_the_same_at_the_pace_of_speech(client: LiveClient, sessions: Sessions) -> None:
    heard = await whole_at_the_pace_of_speech(client, sessions, spoken(TALK))

    assert_told(heard, TALK)
    assert_numbered(heard)
    assert_speakers(heard, TALK, sure_after=2.0)
    # 1.2, 1.5 and the end; 0.4 s is too short.
    assert heard.kinds.count("utterance_end") == 3


async def test_the_result_is_that_of_the_same_recording(stack: Stack, client: LiveClient) -> None:
    data = spoken(TALK)

    live = codec.decode_result((await client.whole(data)).result)
    async with stack.caller() as caller:
        recorded = (await caller.transcribe(wav_of(data))).result

    assert live.utterances == recorded.utterances
    assert [each.text for utterance in live.utterances for each in utterance.words] == [
        each.text for each in spoken_words(TALK)
    ]
    assert (live.turns, live.speakers, live.language) == (recorded.turns, recorded.speakers, recorded.language)
    assert live.duration == recorded.duration


@pytest.mark.parametrize("at_the_pace_of_speech", [False, True])
async def test_long_speech_without_a_pause_is_told_as_it_goes(
    client: LiveClient, sessions: Sessions, transcriber: SpokenTranscriber, at_the_pace_of_speech: bool
) -> None:
    data = spoken(MONOLOGUE)
    if at_the_pace_of_speech:
        heard = await whole_at_the_pace_of_speech(client, sessions, data)
    else:
        heard = await client.whole(data)

    assert_numbered(heard)
    assert [each.text for each in heard.words] == [each.text for each in spoken_words(MONOLOGUE)]
    if at_the_pace_of_speech:
        assert_speakers(heard, MONOLOGUE)
    assert heard.kinds.count("utterance_end") == 1
    assert heard.kinds.count("final") > 5
    assert max(seconds for _, seconds in transcriber.asked) < 20


async def test_words_are_interim_before_they_are_final_and_never_after(client: LiveClient, sessions: Sessions) -> None:
    heard = await whole_at_the_pace_of_speech(client, sessions, spoken(TALK))

    told = 0
    seen: set[str] = set()
    for response in heard.responses:
        if response.HasField("interim"):
            texts = [each.text for each in response.interim.words]
            assert not {each.text for each in heard.words[:told]} & set(texts)
            seen.update(texts)
            assert all(not each.HasField("start_offset") for each in response.interim.words)
        elif response.HasField("final"):
            told += len(response.final.words)
    missing = {each.text for each in heard.words} - seen
    assert len(missing) < len(heard.words) / 4, missing


async def test_without_interim_results_there_are_none(client: LiveClient) -> None:
    heard = await client.whole(spoken(TALK), interim_results=False)

    assert_told(heard, TALK)
    assert "interim" not in heard.kinds


async def test_positions_grow_and_say_how_far_the_session_is(client: LiveClient, sessions: Sessions) -> None:
    data = spoken(TALK)

    heard = await whole_at_the_pace_of_speech(client, sessions, data)

    offsets = [codec.decode_duration(each.audio_offset) for each in heard.numbered]
    assert offsets == sorted(offsets)
    seconds = len(data) / BYTES_PER_SECOND
    for response in heard.responses:
        position = codec.decode_duration(response.audio_offset) + codec.decode_duration(response.behind)
        assert position <= seconds + 1e-6
    assert offsets[-1] == pytest.approx(seconds)


async def test_languages_and_windows_are_those_of_the_options(
    client: LiveClient, stack: Stack, transcriber: SpokenTranscriber
) -> None:
    options = {
        "language_code": "nl",
        "hotwords": ["Careca"],
        "beam_size": 3,
        "initial_prompt": "So,",
        "translate": True,
    }

    heard = await client.whole(spoken(TALK), transcription=options)

    for window, _ in transcriber.asked:
        assert (window.options.language, window.options.hotwords) == ("nl", ("Careca",))
        assert (window.options.beam_size, window.options.initial_prompt, window.options.translate) == (5, "", False)
    assert {each.final.language_code for each in heard.responses if each.HasField("final")} == {"nl"}
    (job,) = set(transcriber.options)  # of what is prepared, and of the result
    assert (job.language, job.beam_size, job.initial_prompt, job.translate) == ("nl", 3, "So,", True)
    live = [each for each in stack.transcriber.scheduled if each.scheduling_class is SchedulingClass.LIVE]
    assert len(live) == len(transcriber.asked)


async def test_flush_makes_words_final_without_more_audio(client: LiveClient) -> None:
    live = await client.begin()
    first = words(0, 1, 5)
    await live.audio(spoken(first))
    await live.flush()

    await live.until_heard("utterance_end")
    assert [each.text for each in live.heard.words] == [each.text for each in spoken_words(first)]
    assert "ended" not in live.heard.kinds

    then = words(0, 11, 5)
    await live.audio(spoken(then))
    await live.flush()
    await live.until_heard("utterance_end", 2)
    await live.end()
    heard = await live.ended()
    assert [each.text for each in heard.words] == [each.text for each in spoken_words([*first, *then])]
    assert heard.kinds.count("utterance_end") == 2


async def test_a_flush_of_nothing_says_nothing(client: LiveClient) -> None:
    live = await client.begin()
    await live.flush()
    await live.audio(spoken([2.0]))
    await live.flush()
    await live.flush()
    await live.audio(spoken([*words(0, 1, 4), 1.0]))
    await live.end()

    heard = await live.ended()
    assert [each.text for each in heard.words] == [each.text for each in spoken_words(words(0, 1, 4))]
    assert heard.kinds.count("utterance_end") == 1


@pytest.mark.parametrize(("pause", "count"), [(0.2, 3), (1.6, 2), (3.0, 1)])
async def test_the_pause_that_ends_an_utterance_is_the_one_asked_for(
    client: LiveClient, sessions: Sessions, pause: float, count: int
) -> None:
    said: list[Said | float] = [*words(0, 1, 5), 1.2, *words(0, 11, 5), 2.2, *words(0, 21, 5), 0.5]
    duration = codec.encode_duration(pause)

    heard = await whole_at_the_pace_of_speech(client, sessions, spoken(said), utterance_pause=duration)

    assert heard.kinds.count("utterance_end") == count
    assert [each.text for each in heard.words] == [each.text for each in spoken_words(said)]


@pytest.mark.parametrize("seconds", [0.3, 1.0, 25.0])
async def test_silence_has_no_words_and_a_job(client: LiveClient, seconds: float) -> None:
    heard = await client.whole(spoken([seconds]))

    assert heard.words == []
    assert heard.job_id
    assert not heard.result.utterances
    assert set(heard.kinds) - {"delay"} == {"started", "ended", "result"}


async def test_a_caller_learns_in_long_silence_how_much_the_gateway_has(client: LiveClient, sessions: Sessions) -> None:
    heard = await whole_at_the_pace_of_speech(client, sessions, spoken([*words(0, 1, 3), 30.0]))

    delays = [codec.decode_duration(each.audio_offset) for each in heard.responses if each.HasField("delay")]
    assert len(delays) >= 4
    assert all(later - earlier >= 5 for earlier, later in pairwise(delays))
    assert heard.kinds[-2:] == ["ended", "result"]


async def test_without_audio_there_is_no_job(client: LiveClient) -> None:
    live = await client.begin()
    await live.send(audio=b"")
    await live.end()

    heard = await live.ended()
    assert heard.kinds == ["started", "ended"]
    assert heard.job_id == ""


async def test_half_a_sample_is_no_audio(client: LiveClient) -> None:
    heard = await client.whole(b"\1")

    assert heard.kinds == ["started", "ended"]
    assert heard.job_id == ""


async def test_half_a_sample_at_the_end_is_left_out(client: LiveClient) -> None:
    heard = await client.whole(spoken(TALK) + b"\1")

    assert_told(heard, TALK)
    assert heard.result.utterances


@pytest.mark.parametrize("piece", [1, 3, 333, 32_001])
async def test_samples_may_be_divided_between_messages(client: LiveClient, piece: int) -> None:
    said = [word(0, 1, 0.1), word(0, 2, 0.2), 0.02] if piece < 300 else TALK
    data = spoken(said)
    live = await client.begin()
    for first in range(0, len(data), piece):
        await live.send(audio=data[first : first + piece])
        if first % 5 == 0:
            await live.send(audio=b"")
    await live.end()

    heard = await live.ended()
    assert [each.text for each in heard.words] == [each.text for each in spoken_words(said)]


async def test_one_message_may_have_a_minute_of_audio(client: LiveClient) -> None:
    live = await client.begin()
    await live.send(audio=spoken([*TALK, *MONOLOGUE]))
    await live.end()

    heard = await live.ended()
    assert [each.text for each in heard.words] == [each.text for each in spoken_words([*TALK, *MONOLOGUE])]


async def test_a_flush_needs_no_more_audio(client: LiveClient) -> None:
    live = await client.begin()
    await live.audio(spoken([0.2, *words(0, 1, 1), 0.1]))

    await live.flush()

    assert [word.text for word in codec.read_words((await live.until_heard("final")).final.words)] == [word(0, 1).text]
    await live.end()
    await live.ended()
