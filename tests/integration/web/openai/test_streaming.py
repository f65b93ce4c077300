"""Server-sent events, made by real services with scripted engines and read by OpenAI's own client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, AsyncStream
from openai.types.audio import (
    TranscriptionStreamEvent,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionTextSegmentEvent,
)

from careca.errors import OutOfMemory
from careca.types import JobState, Segment, Word
from careca_client import AsyncClient
from careca_web.openai import streaming
from support.fakes import SEGMENTS, FakeTranscriberEngine
from support.media import tone, wav
from support.stack import Stack
from support.waiting import eventually
from support.web import Web

Recording = tuple[str, bytes]

TEXT = "hello there good morning"


def transcriber(stack: Stack) -> FakeTranscriberEngine:
    assert isinstance(stack.transcriber.engine, FakeTranscriberEngine)
    return stack.transcriber.engine


async def stream(client: AsyncOpenAI, recording: Recording, **options: Any) -> AsyncStream[TranscriptionStreamEvent]:
    return await client.audio.transcriptions.create(file=recording, stream=True, **({"model": "whisper-1"} | options))


async def events_of(client: AsyncOpenAI, recording: Recording, **options: Any) -> list[TranscriptionStreamEvent]:
    events = [event async for event in await stream(client, recording, **options)]
    for event in events:
        type(event).model_validate(event.model_dump(), strict=True)
    return events


async def line_of(lines: AsyncIterator[str], beginning: str) -> str:
    async for line in lines:
        if line.startswith(beginning):
            return line
    raise AssertionError(f"no line begins with {beginning}")


async def all_cancelled(careca: AsyncClient) -> bool:
    return [job.state async for job in careca.jobs()] == [JobState.CANCELLED]


def deltas(events: list[TranscriptionStreamEvent]) -> list[str]:
    return [event.delta for event in events if isinstance(event, TranscriptionTextDeltaEvent)]


def done(events: list[TranscriptionStreamEvent]) -> TranscriptionTextDoneEvent:
    assert isinstance(events[-1], TranscriptionTextDoneEvent)
    return events[-1]


async def test_the_text_comes_while_the_work_goes_on(client: AsyncOpenAI, recording: Recording, stack: Stack) -> None:
    stack.diarizer.engine.may_go_on.clear()
    came = []
    async for event in await stream(client, recording):
        came.append(event)
        if len(came) == len(SEGMENTS):  # the speakers are not known yet
            stack.diarizer.engine.may_go_on.set()

    assert deltas(came) == ["hello there", " good morning"]
    assert done(came).text == TEXT
    assert [language.code for language in done(came).languages or ()] == ["en"]


async def test_a_cached_transcript_comes_too(client: AsyncOpenAI, recording: Recording) -> None:
    first = await events_of(client, recording)
    second = await events_of(client, recording)

    assert deltas(second) == deltas(first)
    assert done(second).text == done(first).text == TEXT


async def test_speakers_come_at_the_end(client: AsyncOpenAI, recording: Recording) -> None:
    events = await events_of(
        client, recording, model="gpt-4o-transcribe-diarize", response_format="diarized_json", chunking_strategy="auto"
    )

    assert [event.type for event in events] == [
        *["transcript.text.delta"] * 2,
        *["transcript.text.segment"] * 2,
        "transcript.text.done",
    ]
    segments = [event for event in events if isinstance(event, TranscriptionTextSegmentEvent)]
    assert [(each.speaker, each.text, each.start, each.end) for each in segments] == [
        ("SPEAKER_00", "hello there", 0.0, 1.0),
        ("SPEAKER_01", "good morning", 1.0, 2.0),
    ]


async def test_log_probabilities_come_with_the_text(client: AsyncOpenAI, recording: Recording) -> None:
    events = await events_of(client, recording, include=["logprobs"])

    first = events[0]
    assert isinstance(first, TranscriptionTextDeltaEvent)
    assert [each.token for each in first.logprobs or ()] == ["hello", "there"]
    assert [each.token for each in done(events).logprobs or ()] == TEXT.split()


async def test_channels_are_told_in_the_order_of_the_result(client: AsyncOpenAI, stack: Stack) -> None:
    """One channel is transcribed after the other: their segments are not in the order in which people spoke."""
    two_channels = "call.wav", wav(tone(4.0, channels=2, hertz=(300.0, 500.0)))
    transcriber(stack).segments = (
        Segment(0.0, 0.5, "question", (Word("question", 0.0, 0.5, 0.9),)),
        Segment(3.0, 3.5, "answer", (Word("answer", 3.0, 3.5, 0.9),)),
    )

    events = await events_of(client, two_channels, extra_body={"channel_mode": "separate"})

    assert "".join(deltas(events)) == done(events).text
    assert done(events).text == "question question answer answer"


async def test_a_recording_without_speech_ends_with_no_text(
    client: AsyncOpenAI, recording: Recording, stack: Stack
) -> None:
    transcriber(stack).segments = ()

    events = await events_of(client, recording)

    assert [event.type for event in events] == ["transcript.text.done"]
    assert done(events).text == ""


async def test_an_error_before_the_work_begins_has_its_status(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        await stream(client, ("call.wav", b"no sound at all"))

    assert raised.value.code == "not_a_recording"
    assert raised.value.param == "file"


async def test_an_error_while_the_work_goes_on_is_an_event(
    client: AsyncOpenAI, recording: Recording, stack: Stack
) -> None:
    engine = stack.transcriber.engine
    engine.may_go_on.clear()
    engine.failures = [OutOfMemory("the recording is too long for the device")]
    events = await stream(client, recording)
    engine.may_go_on.set()

    with pytest.raises(openai.APIError) as raised:
        async for _ in events:
            pass

    assert raised.value.code == "out_of_memory"
    assert "too long for the device" in raised.value.message


async def test_the_job_is_cancelled_if_the_caller_leaves(
    client: AsyncOpenAI, recording: Recording, stack: Stack
) -> None:
    stack.diarizer.engine.may_go_on.clear()
    events = await stream(client, recording)
    await anext(aiter(events))
    await events.close()

    async with AsyncClient(stack.target) as careca:
        await eventually(lambda: all_cancelled(careca))


async def test_a_comment_is_sent_while_nothing_happens(
    web: Web, recording: Recording, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "PING_SECONDS", 0.05)
    stack.transcriber.engine.may_go_on.clear()
    stack.diarizer.engine.may_go_on.clear()

    form = {"model": "whisper-1", "stream": "true"}
    async with web.http.stream("POST", "/v1/audio/transcriptions", data=form, files={"file": recording}) as response:
        lines = response.aiter_lines()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert await line_of(lines, ": ping")
        stack.transcriber.engine.may_go_on.set()
        stack.diarizer.engine.may_go_on.set()
        assert await line_of(lines, 'data: {"type": "transcript.text.done"')


async def test_languages_without_spaces_have_none_between_segments(
    client: AsyncOpenAI, recording: Recording, stack: Stack
) -> None:
    words = (Word("你好", 0.0, 1.0, 0.9), Word("早上好", 1.0, 2.0, 0.9))
    transcriber(stack).segments = tuple(
        Segment(word.start or 0.0, word.end or 0.0, word.text, (word,), "zh") for word in words
    )

    events = await events_of(client, recording)

    assert deltas(events) == ["你好", "早上好"]
    assert done(events).text == "你好早上好"
