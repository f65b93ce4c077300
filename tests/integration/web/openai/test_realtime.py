"""OpenAI's realtime transcription, with OpenAI's own client."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import RealtimeServerEvent
from websockets.exceptions import ConnectionClosed, InvalidStatus

from careca_web.openai import realtime
from integration.web.live_socket import socket
from support.live import Said, spoken, spoken_stack, spoken_words, word
from support.openai_client import openai_client
from support.redis_server import RedisServer
from support.stack import Stack
from support.tokens import Tokens
from support.waiting import HANG_SECONDS, eventually
from support.web import Web

GRAIN = 1000
"""The gateway converts the audio, so that amplitudes change a little."""


def said(speaker: int) -> list[Said | float]:
    return [word(speaker, GRAIN * (1 + index % 4)) for index in range(5)]


FIRST, SECOND = said(0), said(1)
TALK: list[Said | float] = [0.5, *FIRST, 1.5, *SECOND, 1.5]


def text_of(words: list[Said | float]) -> str:
    return " ".join(each.text for each in spoken_words(words))


def pcm24(words: list[Said | float]) -> bytes:
    return spoken(words, 24_000, flat=True)


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    async with spoken_stack(tmp_path, redis_server.url, GRAIN) as stack:
        yield stack


class Session:
    """One session. ``events`` are all that were read."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.events: list[RealtimeServerEvent] = []

    async def next(self) -> Any:
        async with asyncio.timeout(HANG_SECONDS):
            event = await self.connection.recv()
        type(event).model_validate(event.model_dump(), strict=True)
        self.events.append(event)
        return event

    async def until(self, kind: str) -> Any:
        while (event := await self.next()).type != kind:
            assert event.type != "error", event
        return event

    async def error(self) -> tuple[str | None, str | None]:
        """Code and parameter of the next event, which must be an error."""
        event = await self.next()
        assert event.type == "error", event
        assert event.error.message
        return event.error.code, event.error.param

    async def update(self, **audio_input: Any) -> None:
        await self.connection.session.update(session={"type": "transcription", "audio": {"input": audio_input}})  # type: ignore[typeddict-item]

    async def append(self, audio: bytes) -> None:
        for begin in range(0, len(audio), 12_000):
            await self.connection.input_audio_buffer.append(
                audio=base64.b64encode(audio[begin : begin + 12_000]).decode()
            )

    @asynccontextmanager
    async def silence(self, quiet: bytes = bytes(2)) -> AsyncIterator[None]:
        """Goes on sending silence, as a microphone does."""

        async def send() -> None:
            while True:
                await self.append(quiet * (4_800 // len(quiet)))
                await asyncio.sleep(0.02)

        sending = asyncio.create_task(send())
        try:
            yield
        finally:
            sending.cancel()

    def deltas(self, item_id: str) -> str:
        return "".join(
            event.delta or ""
            for event in self.events
            if event.type == "conversation.item.input_audio_transcription.delta" and event.item_id == item_id
        )


COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"


@asynccontextmanager
async def session(client: AsyncOpenAI, **query: str) -> AsyncIterator[Session]:
    async with client.realtime.connect(extra_query={"intent": "transcription"} | query, max_retries=0) as connection:
        opened = Session(connection)
        created = await opened.next()
        assert created.type == "session.created"
        yield opened


async def test_each_utterance_is_told_while_people_talk(client: AsyncOpenAI) -> None:
    async with session(client) as opened:
        await opened.update(
            format={"type": "audio/pcm", "rate": 24_000},
            transcription={"model": "gpt-4o-transcribe", "language": "en"},
            turn_detection={"type": "server_vad", "silence_duration_ms": 800},
        )
        updated = (await opened.until("session.updated")).session
        await opened.append(pcm24(FIRST))
        async with opened.silence():
            first = await opened.until(COMPLETED)
        await opened.append(pcm24(SECOND))
        async with opened.silence():
            second = await opened.until(COMPLETED)

    assert updated.audio.input.transcription.language == "en"
    assert updated.audio.input.turn_detection.silence_duration_ms == 800
    assert [first.transcript, second.transcript] == [text_of(FIRST), text_of(SECOND)]
    assert [opened.deltas(each.item_id) for each in (first, second)] == [first.transcript, second.transcript]
    committed = [event for event in opened.events if event.type == "input_audio_buffer.committed"]
    assert [event.item_id for event in committed] == [first.item_id, second.item_id]
    assert [event.previous_item_id for event in committed] == [None, first.item_id]
    started = [event for event in opened.events if event.type == "input_audio_buffer.speech_started"]
    stopped = [event for event in opened.events if event.type == "input_audio_buffer.speech_stopped"]
    assert (
        [event.item_id for event in started] == [event.item_id for event in stopped] == [first.item_id, second.item_id]
    )
    times = [
        time for each in zip(started, stopped, strict=True) for time in (each[0].audio_start_ms, each[1].audio_end_ms)
    ]
    assert times == sorted(times)
    assert times[0] < 100
    kinds = [event.type for event in opened.events if getattr(event, "item_id", "") == first.item_id]
    assert kinds.index("input_audio_buffer.speech_started") < kinds.index(DELTA)
    assert kinds[-3:] == ["input_audio_buffer.speech_stopped", "input_audio_buffer.committed", COMPLETED]
    assert first.usage.type == "duration"
    assert [language.code for language in first.languages] == ["en"]
    ids = [event.event_id for event in opened.events]
    assert len(set(ids)) == len(ids)


async def test_a_commit_ends_an_utterance_before_a_pause_does(client: AsyncOpenAI) -> None:
    async with session(client) as opened:
        await opened.update(turn_detection={"type": "server_vad", "silence_duration_ms": 5000})
        await opened.until("session.updated")
        for words in (FIRST, SECOND):
            await opened.append(pcm24(words))
            await opened.connection.input_audio_buffer.commit()
            await opened.append(pcm24([1.0]))  # speakers are found for whole seconds
            assert (await opened.until(COMPLETED)).transcript == text_of(words)


async def test_without_turn_detection_the_caller_commits(client: AsyncOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime, "SILENCE_SECONDS", HANG_SECONDS)
    async with session(client) as opened:
        await opened.update(turn_detection=None)
        await opened.until("session.updated")
        await opened.append(pcm24(TALK))
        await opened.connection.input_audio_buffer.commit()
        await opened.append(pcm24([1.0]))
        committed = await opened.until("input_audio_buffer.committed")
        completed = await opened.until(COMPLETED)

    assert not [event for event in opened.events if "speech" in event.type], "the caller knows when"
    assert completed.item_id == committed.item_id
    assert completed.transcript == f"{text_of(FIRST)} {text_of(SECOND)}"
    assert [event.type for event in opened.events].count(COMPLETED) == 1


async def test_a_committed_item_without_speech_is_empty(client: AsyncOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realtime, "SILENCE_SECONDS", 0.1)
    async with session(client) as opened:
        await opened.update(turn_detection=None)
        await opened.until("session.updated")
        await opened.append(bytes(48_000))
        await opened.connection.input_audio_buffer.commit()
        assert (await opened.until(COMPLETED)).transcript == ""


@pytest.mark.parametrize(("name", "kind"), [("g711_ulaw", "audio/pcmu"), ("g711_alaw", "audio/pcma")])
async def test_telephone_audio_and_the_older_update(client: AsyncOpenAI, name: str, kind: str) -> None:
    async with session(client) as opened:
        await opened.connection.send_raw(
            f'{{"type": "transcription_session.update", "session": {{"input_audio_format": "{name}", '
            '"input_audio_transcription": {"model": "whisper-1", "prompt": "", "language": "en"}, '
            '"turn_detection": {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, '
            '"silence_duration_ms": 500}, "input_audio_noise_reduction": null}}'
        )
        updated = await opened.connection.recv()
        await opened.update(format={"type": kind})
        await opened.until("session.updated")
        await opened.append(g711(spoken(FIRST, 8_000, flat=True), name))
        async with opened.silence(g711(bytes(2), name)):
            completed = await opened.until(COMPLETED)

    assert updated.type == "transcription_session.updated"  # type: ignore[comparison-overlap]
    assert updated.session["input_audio_format"] == name  # type: ignore[unreachable]
    assert completed.transcript == text_of(FIRST)


def g711(pcm: bytes, name: str) -> bytes:
    """PCM as mu-law or A-law (ITU-T G.711)."""
    encoded = bytearray()
    for begin in range(0, len(pcm), 2):
        value = int.from_bytes(pcm[begin : begin + 2], "little", signed=True)
        encoded.append(_mulaw(value) if name == "g711_ulaw" else _alaw(value))
    return bytes(encoded)


def _mulaw(value: int) -> int:
    magnitude = min(abs(value), 32_635) + 132
    exponent = magnitude.bit_length() - 8
    return ~((0x80 if value < 0 else 0) | exponent << 4 | (magnitude >> (exponent + 3)) & 0x0F) & 0xFF


def _alaw(value: int) -> int:
    magnitude = min(abs(value), 32_767)
    exponent = max(0, magnitude.bit_length() - 8)
    mantissa = (magnitude >> (exponent + 3 if exponent else 4)) & 0x0F
    return ((0x80 if value >= 0 else 0) | exponent << 4 | mantissa) ^ 0x55


async def test_log_probabilities_come_if_they_are_asked_for(client: AsyncOpenAI) -> None:
    async with session(client) as opened:
        await opened.connection.session.update(
            session={"type": "transcription", "include": ["item.input_audio_transcription.logprobs"]}
        )
        await opened.until("session.updated")
        await opened.append(pcm24(FIRST))
        async with opened.silence():
            completed = await opened.until(COMPLETED)

    assert [each.token for each in completed.logprobs] == text_of(FIRST).split()


async def test_what_was_said_is_in_the_history_when_the_caller_has_gone(client: AsyncOpenAI, web: Web) -> None:
    async with session(client) as opened:
        await opened.append(pcm24(FIRST))
        async with opened.silence():
            await opened.until(COMPLETED)

    async def is_done() -> bool:
        jobs = (await web.http.get("/api/jobs")).json()["jobs"]
        return [(job["name"], job["state"]) for job in jobs] == [("realtime", "succeeded")]

    await eventually(is_done)


# Refused


@pytest.mark.parametrize(
    ("audio_input", "code", "param"),
    [
        ({"format": {"type": "audio/mp3"}}, "invalid_value", "format.type"),
        ({"format": {"type": "audio/pcm", "rate": 16_000}}, "unsupported_value", "format.rate"),
        ({"noise_reduction": {"type": "near_field"}}, "unsupported_value", "noise_reduction"),
        ({"transcription": None}, "unsupported_value", "transcription"),
        ({"transcription": {"model": "gpt-9"}}, "model_not_found", "transcription.model"),
        ({"transcription": {"prompt": "names"}}, "unsupported_value", "transcription.prompt"),
        ({"transcription": {"delay": "low"}}, "unsupported_value", "transcription.delay"),
        ({"transcription": {"language": 7}}, "invalid_value", "transcription.language"),
        ({"transcription": {"languages": ["en", "pt"]}}, "unsupported_value", "transcription.languages"),
        ({"transcription": {"keywords": "Careca"}}, "invalid_value", "transcription.keywords"),
        ({"turn_detection": {"type": "semantic_vad"}}, "unsupported_value", "turn_detection.type"),
        ({"turn_detection": {"threshold": 0.9}}, "unsupported_value", "turn_detection.threshold"),
        ({"turn_detection": {"silence_duration_ms": 9}}, "invalid_value", "turn_detection.silence_duration_ms"),
        ({"turn_detection": {"eagerness": "low"}}, "unsupported_value", "turn_detection.eagerness"),
        ({"turn_detection": "server_vad"}, "invalid_value", "turn_detection"),
        ({"volume": 11}, "unknown_parameter", "volume"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_its_name(
    client: AsyncOpenAI, audio_input: dict[str, Any], code: str, param: str
) -> None:
    async with session(client) as opened:
        await opened.update(**audio_input)
        assert await opened.error() == (code, f"session.audio.input.{param}")
        await opened.update(transcription={"model": "whisper-1"})
        assert (await opened.until("session.updated")).session.audio.input.format.type == "audio/pcm"


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ('{"type": "response.create"}', "unsupported_value", "type"),
        ("{}", "missing_required_parameter", "type"),
        ("no JSON", "bad_message", None),
        ("[]", "bad_message", None),
        ('{"type": "session.update"}', "missing_required_parameter", "session"),
        ('{"type": "session.update", "session": {"type": "realtime"}}', "unsupported_value", "session.type"),
        ('{"type": "session.update", "session": {"include": ["x"]}}', "invalid_value", "session.include"),
        (
            '{"type": "transcription_session.update", "session": {"input_audio_format": "mp3"}}',
            "invalid_value",
            "session.input_audio_format",
        ),
        ('{"type": "transcription_session.update", "session": {"x": 1}}', "unknown_parameter", "session.x"),
        ('{"type": "input_audio_buffer.append"}', "missing_required_parameter", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "#"}', "invalid_value", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "ä"}', "invalid_value", "audio"),
        ('{"type": "input_audio_buffer.commit"}', "input_audio_buffer_commit_empty", None),
    ],
)
async def test_wrong_events_are_refused_and_the_session_goes_on(
    client: AsyncOpenAI, event: str, code: str, param: str | None
) -> None:
    async with session(client) as opened:
        await opened.connection.send_raw(event)
        assert await opened.error() == (code, param)
        await opened.connection.input_audio_buffer.clear()
        await opened.until("input_audio_buffer.cleared")


async def test_an_error_names_the_event_that_caused_it(client: AsyncOpenAI) -> None:
    async with session(client) as opened:
        await opened.connection.send_raw('{"type": "response.create", "event_id": "mine"}')
        event = await opened.next()

    assert event.error.event_id == "mine"


async def test_audio_that_was_received_cannot_be_taken_back(client: AsyncOpenAI) -> None:
    async with session(client) as opened:
        await opened.append(pcm24(FIRST))
        await opened.connection.input_audio_buffer.clear()
        assert await opened.error() == ("unsupported_value", "type")
        await opened.update(transcription={"language": "pt"})
        assert await opened.error() == ("unsupported_value", "session")
        await opened.update(transcription={"model": "whisper-1"})
        await opened.until("session.updated")


async def test_what_only_the_gateway_refuses_ends_the_session(client: AsyncOpenAI) -> None:
    async with session(client) as opened:
        await opened.update(transcription={"language": "klingon"})
        await opened.until("session.updated")
        await opened.append(bytes(100))
        assert await opened.error() == ("unknown_language", "language")


@pytest.mark.parametrize("query", [{"intent": "conversation"}, {"intent": ""}, {"model": "gpt-9"}])
async def test_other_sessions_are_refused(client: AsyncOpenAI, query: dict[str, str]) -> None:
    with pytest.raises(InvalidStatus) as raised:
        async with session(client, **query):
            pass
    assert b'"error"' in (raised.value.response.body or b"")
    assert raised.value.response.status_code in (400, 404)


async def test_a_token_is_needed_if_the_gateway_needs_one(guarded: Web, tokens: Tokens) -> None:
    async with openai_client(guarded.url, api_key=tokens.of["ana"]) as ana, session(ana) as opened:
        assert opened.events[0].type == "session.created"
    async with openai_client(guarded.url, api_key="careca_wrong") as stranger:
        with pytest.raises(InvalidStatus) as raised:
            async with session(stranger):
                pass
    assert raised.value.response.status_code == 401


async def test_pages_of_other_sites_get_no_session(web: Web) -> None:
    with pytest.raises(InvalidStatus) as raised:
        async with socket(web, "/v1/realtime?intent=transcription", {"Origin": "https://other.example"}):
            pass
    assert raised.value.response.status_code == 403


async def test_a_service_that_stops_says_so(client: AsyncOpenAI, web: Web) -> None:
    async with session(client) as opened:
        web.service.draining.begin()
        assert await opened.error() == ("restarting", None)
        with pytest.raises(ConnectionClosed) as closed:
            await opened.next()
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1012
