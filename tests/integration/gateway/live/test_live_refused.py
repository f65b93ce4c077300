"""What a stranger can send to the live service, and the limits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from redis.asyncio import Redis

from careca import codec
from careca.auth.caller import Caller, CallerLimits, acting_as
from careca.errors import (
    CarecaError,
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    PreconditionFailed,
    Unavailable,
)
from careca.types import NoticeCode
from careca.v1 import live_pb2
from careca_gateway.jobs.queue.redis_script import PREFIX
from careca_gateway.live.audio import MOST_ADDED_BYTES
from integration.gateway.live.conftest import Sessions
from support.live import (
    BYTES_PER_SECOND,
    PCM,
    Config,
    Live,
    LiveClient,
    Request,
    Said,
    SpokenDiarizer,
    SpokenTranscriber,
    assert_told,
    live_client,
    spoken,
    words,
)
from support.redis_server import RedisServer
from support.stack import Stack
from support.waiting import longer_and_longer, until

TALK: list[Said | float] = [*words(0, 1, 6), 1.0]
DATA = spoken(TALK)


async def works(client: LiveClient) -> None:
    """A session from its start to its end."""
    heard = await client.whole(DATA)
    assert_told(heard, TALK)
    assert heard.result.utterances


async def continued(client: LiveClient, live: Live) -> None:
    """The session of a call that was refused goes on with all that it has received."""
    assert live.session_id
    second = await client.resume(live.session_id)
    await second.audio(DATA[second.received_bytes :])
    await second.end()
    assert_told(await second.ended(), TALK)


@pytest.mark.parametrize(
    "first",
    [
        {},
        {"audio": b"\1\1"},
        {"flush": Request.Flush()},
        {"end": Request.End()},
    ],
    ids=["empty", "audio", "flush", "end"],
)
async def test_the_first_message_must_have_the_config(client: LiveClient, first: dict[str, Any]) -> None:
    live = client.open()
    await live.send(**first)

    error = await live.error()
    assert isinstance(error, InvalidRequest)
    assert error.field == "config"
    assert live.responses == []


async def test_without_a_message_nothing_begins(client: LiveClient) -> None:
    live = client.open()
    await live.call.done_writing()

    error = await live.error()
    assert isinstance(error, InvalidRequest)
    assert error.field == "config"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"encoding": live_pb2.LIVE_ENCODING_UNSPECIFIED}, "config.encoding"),
        ({"encoding": 99}, "config.encoding"),
        ({"sample_rate_hertz": 7_999}, "config.sample_rate_hertz"),
        ({"sample_rate_hertz": 48_001}, "config.sample_rate_hertz"),
        ({"sample_rate_hertz": -16_000}, "config.sample_rate_hertz"),
        ({"sample_rate_hertz": 2**31 - 1}, "config.sample_rate_hertz"),
        ({"encoding": live_pb2.LIVE_ENCODING_MULAW, "sample_rate_hertz": 16_000}, "config.sample_rate_hertz"),
        ({"encoding": live_pb2.LIVE_ENCODING_ALAW, "sample_rate_hertz": 7_999}, "config.sample_rate_hertz"),
        ({"utterance_pause": codec.encode_duration(0.19)}, "config.utterance_pause"),
        ({"utterance_pause": codec.encode_duration(5.01)}, "config.utterance_pause"),
        ({"utterance_pause": Duration()}, "config.utterance_pause"),
        ({"utterance_pause": Duration(seconds=-1)}, "config.utterance_pause"),
        ({"utterance_pause": Duration(seconds=2**63 - 1, nanos=2**31 - 1)}, "config.utterance_pause"),
        ({"display_name": "x" * 256}, "config.display_name"),
        ({"display_name": "two\nlines"}, "config.display_name"),
        ({"transcription": {"language_code": "xx"}}, "config.transcription.language_code"),
        ({"transcription": {"beam_size": 99}}, "config.transcription.beam_size"),
        ({"transcription": {"hotwords": [""]}}, "config.transcription.hotwords[0]"),
        ({"diarization": {"speaker_count": 51}}, "config.diarization.speaker_count"),
        ({"diarization": {"min_speaker_count": 3, "max_speaker_count": 2}}, "config.diarization.min_speaker_count"),
        ({"known_speakers": [{"name": "Ana"}]}, "config.known_speakers[0].recording"),
        ({"known_speakers": [{"name": "SPEAKER_00", "recording": b"x"}]}, "config.known_speakers[0].name"),
        (
            {"known_speakers": [{"name": "Ana", "recording": b"x"}, {"name": "Ana", "recording": b"y"}]},
            "config.known_speakers[1].name",
        ),
        ({"known_speakers": [{"name": f"P{n}", "recording": b"x"} for n in range(51)]}, "config.known_speakers"),
        (
            {"known_speakers": [{"name": "Ana", "voice": {"embedding": [0.0, 0.0], "embedding_model": "m"}}]},
            "config.known_speakers[0].voice.embedding",
        ),
        (
            {"known_speakers": [{"name": "Ana", "voice": {"embedding": [1.0]}}]},
            "config.known_speakers[0].voice.embedding_model",
        ),
    ],
)
async def test_an_option_out_of_range_is_refused_with_its_field(
    stack: Stack, client: LiveClient, config: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await client.begin(**config)

    assert refused.value.field == field
    assert not list((stack.store / "live").glob("*")), "something of a refused session is kept"


async def test_the_greatest_and_the_least_options_are_accepted(client: LiveClient) -> None:
    for config in (
        {"sample_rate_hertz": 8_000, "utterance_pause": codec.encode_duration(0.2), "display_name": "x" * 255},
        {"sample_rate_hertz": 48_000, "utterance_pause": codec.encode_duration(5), "display_name": "Größe ✓"},
        {"encoding": live_pb2.LIVE_ENCODING_MULAW, "sample_rate_hertz": 8_000},
        {"diarization": {"speaker_count": 50}},
        {"transcription": {"beam_size": 20}},
    ):
        live = await client.begin(**config)
        await live.end()
        assert (await live.ended()).kinds == ["started", "ended"]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({}, "message"),
        ({"config": Request.Config(encoding=PCM)}, "config"),
        ({"audio": bytes(3 * 1024 * 1024 + 2)}, "audio"),
    ],
    ids=["empty", "config", "too large"],
)
async def test_a_message_that_is_refused_leaves_the_session(
    client: LiveClient, message: dict[str, Any], field: str
) -> None:
    live = await client.begin()
    await live.audio(DATA[: len(DATA) // 2])
    await live.send(**message)

    error = await live.error()
    assert isinstance(error, InvalidRequest)
    assert error.field == field
    if message.get("audio"):
        assert error.reason == "CHUNK_TOO_LARGE"
    await continued(client, live)


async def test_the_largest_message_is_accepted(client: LiveClient) -> None:
    data = DATA + bytes(3 * 1024 * 1024 - len(DATA))
    live = await client.begin()
    await live.send(audio=data)
    await live.end()

    assert_told(await live.ended(), TALK)


async def test_audio_after_the_end_is_refused(client: LiveClient, diarizer: SpokenDiarizer) -> None:
    diarizer.may_go_on.clear()  # the session cannot end yet
    live = await client.begin()
    await live.audio(DATA)
    await live.end()
    await live.end()
    await live.flush()
    await live.send(audio=b"\1\1")

    error = await live.error()
    assert isinstance(error, InvalidRequest)
    assert error.field == "audio"
    diarizer.may_go_on.set()
    heard = await (await client.resume(live.session_id)).ended()
    assert heard.responses[0].started.received_bytes == len(DATA)
    assert_told(heard, TALK)


async def test_messages_that_stop_without_end_are_refused(client: LiveClient) -> None:
    live = await client.begin()
    await live.audio(DATA[: len(DATA) // 2])
    await live.call.done_writing()

    error = await live.error()
    assert isinstance(error, InvalidRequest)
    assert error.field == "end"
    await continued(client, live)


async def test_the_rest_of_a_session_can_be_read_without_end(client: LiveClient) -> None:
    first = await client.begin()
    await first.audio(DATA)
    await first.end()
    whole = await first.ended()

    second = await client.resume(first.session_id)
    await second.call.done_writing()
    assert (await second.ended()).result == whole.result


async def test_a_gateway_without_jobs_has_no_live_sessions(tmp_path: Path, redis_url: str) -> None:
    async with Stack(tmp_path, redis_url) as stack, live_client(stack.target) as client:
        with pytest.raises(PreconditionFailed) as refused:
            await client.begin()

    assert refused.value.reason == "JOBS_OFF"


async def test_the_deadline_of_the_call_ends_the_call_only(client: LiveClient) -> None:
    for seconds in longer_and_longer(0.5):
        try:
            live = await client.begin(within=seconds)
        except CarecaError:
            continue
        assert isinstance(await live.error(), DeadlineExceeded)
        await continued(client, live)
        return


# How many


@pytest.mark.parametrize("gateway_settings", [{"max_live_sessions": 3, "max_live_sessions_per_submitter": 2}])
async def test_there_are_limits_for_sessions_at_the_same_time(stack: Stack) -> None:
    async with live_client(stack.target, "ana") as ana, live_client(stack.target, "bob") as bob:
        first, _second = await ana.begin(), await ana.begin()
        await refused_as_too_many(ana)
        third = await bob.begin()
        await refused_as_too_many(bob)

        await first.audio(DATA)
        await first.end()
        assert_told(await first.ended(), TALK)
        fourth = await ana.begin()
        await refused_as_too_many(bob)
        assert {each.session_id for each in (first, _second, third, fourth)}


async def test_a_token_may_have_fewer_sessions_than_others(stack: Stack, sessions: Sessions) -> None:
    assert sessions.service
    with acting_as(Caller("ana", limits=CallerLimits(live_sessions=1))):
        await sessions.service.begin("ana", Config(encoding=PCM))
        with pytest.raises(Overloaded) as refused:
            await sessions.service.begin("ana", Config(encoding=PCM))
    assert refused.value.reason == "TOO_MANY_SESSIONS"
    await sessions.service.begin("bob", Config(encoding=PCM))


async def refused_as_too_many(client: LiveClient) -> None:
    with pytest.raises(Overloaded) as refused:
        await client.begin()
    assert refused.value.reason == "TOO_MANY_SESSIONS"
    assert refused.value.retry_after_seconds


@pytest.mark.parametrize("gateway_settings", [{"max_live_sessions": 3}])
async def test_sessions_that_begin_at_once_are_limited_too(redis_server: RedisServer, client: LiveClient) -> None:
    begun = await asyncio.gather(*(client.begin() for _ in range(12)), return_exceptions=True)

    refused = [each for each in begun if isinstance(each, BaseException)]
    assert len(begun) - len(refused) == 3
    assert {each.reason for each in refused if isinstance(each, Overloaded)} == {"TOO_MANY_SESSIONS"}
    async with Redis.from_url(redis_server.url) as redis:
        assert await redis.scard(f"{PREFIX}:live") == 3


@pytest.mark.parametrize("gateway_settings", [{"max_live_sessions": 1}])
async def test_a_refused_session_takes_no_place(client: LiveClient) -> None:
    for _ in range(3):
        with pytest.raises(InvalidRequest):
            await client.begin(display_name="\n")
    await works(client)
    await works(client)


# How long


@pytest.mark.parametrize("gateway_settings", [{"max_audio_seconds": 5.0}])
async def test_a_session_may_be_as_long_as_a_recording(client: LiveClient) -> None:
    said = [*words(0, 1, 10), 1.0]
    assert len(spoken(said)) == 5 * BYTES_PER_SECOND
    assert_told(await client.whole(spoken(said)), said)

    live = await client.begin()
    await live.audio(spoken(said))
    await live.send(audio=b"\1\1")
    await refused_as_too_long(client, live, said)


@pytest.mark.parametrize("gateway_settings", [{"max_recording_bytes": len(DATA) + MOST_ADDED_BYTES}])
async def test_a_session_may_be_as_large_as_a_recording(client: LiveClient) -> None:
    heard = await client.whole(DATA)
    assert_told(heard, TALK)
    assert heard.result.utterances

    live = await client.begin()
    await live.audio(DATA)
    await live.send(audio=b"\1\1")
    await refused_as_too_long(client, live, TALK)


async def refused_as_too_long(client: LiveClient, live: Live, said: list[Said | float]) -> None:
    error = await live.error()
    assert isinstance(error, InvalidRequest)
    assert error.reason == "RECORDING_TOO_LONG"
    second = await client.resume(live.session_id)
    assert second.received_bytes == len(spoken(said))
    await second.end()
    heard = await second.ended()
    assert_told(heard, said)
    assert heard.result.utterances


# Too slow


async def test_a_session_that_falls_behind_says_so_and_takes_no_more_audio(
    client: LiveClient, sessions: Sessions, transcriber: SpokenTranscriber
) -> None:
    said: list[Said | float] = [each for n in range(30) for each in (*words(n % 2, 10 * n + 1, 6, 0.3), 0.7)]
    transcriber.may_go_on.clear()
    live = await client.begin()
    session = await sessions.of(live)
    sending = asyncio.create_task(live.audio(spoken(said)))

    await live.until_heard("notice")
    await until(lambda: session.received_bytes > 20 * BYTES_PER_SECOND)
    assert not sending.done() or live.sent_bytes > session.received_bytes
    kept = session.received_bytes
    assert kept <= 20.5 * BYTES_PER_SECOND
    await asyncio.sleep(0)
    assert session.received_bytes == kept

    transcriber.may_go_on.set()
    await sending
    await live.end()
    heard = await live.ended()
    assert NoticeCode.FALLING_BEHIND in heard.notices
    assert [each.text for each in heard.words] == [each.text for each in said if isinstance(each, Said)]


async def test_the_notice_comes_once_until_the_session_has_caught_up(
    client: LiveClient, sessions: Sessions, transcriber: SpokenTranscriber
) -> None:
    live = await client.begin()
    session = await sessions.of(live)
    for times in (1, 2):
        transcriber.may_go_on.clear()
        await live.audio(spoken([*words(0, 100 * times, 40, 0.3)]))
        await live.until_heard("notice", times)
        transcriber.may_go_on.set()
        await until(lambda: session.behind < 0.5)
    await live.end()

    assert (await live.ended()).notices == [NoticeCode.FALLING_BEHIND] * 2


# Draining


async def test_a_gateway_that_stops_ends_calls_and_begins_none(stack: Stack) -> None:
    async with live_client(stack.target) as client:
        live = await client.begin()
        await live.audio(DATA)
        await stack.stop_gateway()

        assert isinstance(await live.error(), Unavailable)
        with pytest.raises(Unavailable):
            await client.begin()
