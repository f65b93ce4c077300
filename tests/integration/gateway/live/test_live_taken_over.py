"""Live sessions that go on at another gateway. Real gateways, which share a folder or an S3 bucket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from careca.errors import CarecaError, Unavailable
from careca.types import JobState
from careca_gateway.live import journal, service
from support.live import (
    BYTES_PER_SECOND,
    Heard,
    Live,
    Said,
    SpokenDiarizer,
    SpokenTranscriber,
    assert_numbered,
    assert_told,
    live_client,
    spoken,
    spoken_words,
    words,
)
from support.redis_server import RedisServer
from support.s3_server import BUCKET, S3Server
from support.stack import ModelService, Stack
from support.submitters import submitting
from support.waiting import eventually

TALK: list[Said | float] = [
    *words(0, 1, 12),
    1.0,
    *words(1, 101, 12),
    1.0,
    *words(0, 21, 12),
    1.0,
    *words(1, 121, 12),
    1.0,
]
DATA = spoken(TALK)
SAID = [each.text for each in spoken_words(TALK)]


@pytest.fixture(params=["file", "s3"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "file":
        return {"store_url": (tmp_path / "shared").as_uri()}
    server: S3Server = request.getfixturevalue("s3_server")
    assert server
    return {"store_url": f"s3://{BUCKET}/careca", "store_allow_http": True}


@pytest.fixture
async def stacks(
    tmp_path: Path, shared: dict[str, Any], redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Stack, Stack]]:
    """Two gateways, each with its own disk and model services. Audio is stored in small parts."""
    monkeypatch.setattr(journal, "_PART_BYTES", 100_000)
    monkeypatch.setattr(service, "_SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(service, "_BEAT_SECONDS", 0.02)

    def stack(name: str) -> Stack:
        return Stack(
            tmp_path / name,
            redis_server.url,
            transcriber=ModelService(SpokenTranscriber()),
            diarizer=ModelService(SpokenDiarizer()),
            gateway_settings=dict(shared),
            jobs=True,
        )

    async with stack("one") as one, stack("two") as two:
        yield one, two


async def finish(live: Live) -> Heard:
    """Sends the rest of the audio, and the end."""
    await live.audio(DATA[live.received_bytes :])
    await live.end()
    return await live.ended()


async def test_a_session_goes_on_at_another_gateway(stacks: tuple[Stack, Stack]) -> None:
    """The gateways do not stop: the call ended, and the client happened to reach the other one."""
    async with live_client(stacks[0].target, "ana") as one, live_client(stacks[1].target, "ana") as two:
        heard = Heard([])
        live = await one.begin()
        session_id = live.session_id
        for number in range(6):
            client = (two, one)[number % 2]
            position = live.received_bytes
            await live.audio(DATA[position : position + len(DATA) // 7])
            await live.cancel()
            heard += live.heard
            live = await client.resume(session_id, heard.last_number)
        heard += await finish(live)

    assert_numbered(heard)
    assert_told(heard, TALK)
    recorded = [word.text for utterance in heard.result.utterances for word in utterance.words]
    assert recorded == SAID


async def test_the_call_at_the_first_gateway_ends(stacks: tuple[Stack, Stack]) -> None:
    async with live_client(stacks[0].target, "ana") as one, live_client(stacks[1].target, "ana") as two:
        first = await one.begin()
        await first.audio(DATA[: len(DATA) // 2])
        second = await two.resume(first.session_id, first.heard.last_number)

        error = await first.error()
        assert isinstance(error, CarecaError)
        assert error.reason == "SESSION_TAKEN_OVER"
        numbers = [each.event_number for each in second.heard.numbered]
        known = numbers[0] - 1 if numbers else first.heard.last_number
        heard = Heard([each for each in first.responses if each.event_number <= known])
        heard += await finish(second)
    assert_told(Heard(_newest(heard)), TALK)


def _newest(heard: Heard) -> list[Any]:
    """The responses, without those that a later one repeats."""
    found: dict[int, Any] = {}
    unnumbered = [each for each in heard.responses if not each.event_number]
    for each in heard.numbered:
        found.setdefault(each.event_number, each)
    return [*unnumbered, *(found[number] for number in sorted(found))]


async def test_a_session_goes_on_while_its_gateway_stops(stacks: tuple[Stack, Stack]) -> None:
    async with live_client(stacks[0].target, "ana") as one, live_client(stacks[1].target, "ana") as two:
        first = await one.begin()
        await first.audio(DATA[: len(DATA) // 2])
        stopping = asyncio.create_task(stacks[0].stop_gateway())
        assert isinstance(await first.error(), Unavailable)
        second = await two.resume(first.session_id, first.heard.last_number)
        heard = first.heard + await finish(second)
        await stopping

    assert_numbered(heard)
    assert_told(heard, TALK)


async def test_a_session_whose_gateway_is_gone_becomes_a_job(
    stacks: tuple[Stack, Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody comes back: neither the caller nor the gateway."""
    gone, other = stacks
    monkeypatch.setattr(service, "_SILENCE_SECONDS", 0.2)
    async with live_client(gone.target, "ana") as client:
        first = await client.begin()
        await first.audio(DATA)
        await first.until_heard("final")
        await other.stop_gateway()
        await gone.stop_gateway()
    other.gateway_settings["live_idle_seconds"] = 0.05
    await other.start_gateway()

    async with live_client(other.target, "ana") as client, submitting(other, "ana") as ana:

        async def submitted() -> bool:
            return bool((await ana.list())[0])

        await eventually(submitted)
        (job,), _ = await ana.list()
        assert (await ana.ended(job)).state is JobState.SUCCEEDED
        second = await client.resume(first.session_id, first.heard.last_number)
        heard = first.heard + await second.ended()
    assert_numbered(heard)
    assert heard.job_id == job.id
    said = [each.text for each in spoken_words(TALK) if each.end <= second.received_bytes / BYTES_PER_SECOND]
    assert [each.text for each in heard.words][: len(said)] == said
