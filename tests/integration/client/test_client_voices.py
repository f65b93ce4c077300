"""Both clients' calls for saved voices, against a real gRPC server that keeps voices in memory."""

from __future__ import annotations

from typing import Any

import pytest

from careca.errors import InvalidRequest, NotFound, Unavailable
from careca_client import SavedVoice, Voice
from support.clients import Connect, EitherClient
from support.scripted_gateway import GatewayFixture
from support.scripted_voices import SAVED_AT

VOICE = Voice((0.5, -0.25), "voices@2")


async def test_a_speaker_of_a_job_is_saved(client: EitherClient, gateway: GatewayFixture) -> None:
    saved = await client.save_voice("Ana", job_id="0123abc", speaker="SPEAKER_01")

    assert saved == SavedVoice("Ana", "voices@1", SAVED_AT, "0123abc")
    request = gateway.voices.requests["anonymous"]["Ana"]
    assert (request.job_speaker.job_id, request.job_speaker.speaker_label) == ("0123abc", "SPEAKER_01")


async def test_a_voice_is_saved(client: EitherClient, gateway: GatewayFixture) -> None:
    saved = await client.save_voice("Bob", voice=VOICE)

    assert saved == SavedVoice("Bob", "voices@2", SAVED_AT)
    assert tuple(gateway.voices.requests["anonymous"]["Bob"].voice.embedding) == VOICE.embedding


async def test_voices_are_listed_and_deleted(client: EitherClient) -> None:
    for name in ("Ana", "Bob"):
        await client.save_voice(name, voice=VOICE)

    await client.delete_voice("Ana")

    assert [voice.name for voice in await client.voices()] == ["Bob"]
    with pytest.raises(NotFound) as refused:
        await client.delete_voice("Ana")
    assert refused.value.reason == "VOICE_NOT_FOUND"


async def test_voices_are_the_submitters(connect: Connect, gateway: GatewayFixture) -> None:
    ana, bob = connect(gateway.target, submitter="ana"), connect(gateway.target, submitter="bob")

    await ana.save_voice("Eve", voice=VOICE)

    assert len(await ana.voices()) == 1
    assert await bob.voices() == ()


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"job_id": "1"},
        {"speaker": "A"},
        {"voice": VOICE, "job_id": "1", "speaker": "A"},
        {"voice": VOICE, "speaker": "A"},
    ],
    ids=["nothing", "only a job", "only a speaker", "both", "a voice and a speaker"],
)
async def test_there_must_be_exactly_one_source(client: EitherClient, gateway: GatewayFixture, source: Any) -> None:
    with pytest.raises(InvalidRequest):
        await client.save_voice("Ana", **source)

    assert gateway.voices.requests == {}


async def test_the_gateways_errors_are_raised(client: EitherClient, gateway: GatewayFixture) -> None:
    gateway.script.failures = [Unavailable("no Redis", reason="JOBS_UNAVAILABLE")]

    with pytest.raises(Unavailable) as raised:
        await client.voices()

    assert raised.value.reason == "JOBS_UNAVAILABLE"


async def test_saved_voices_are_used_only_if_asked_for(client: EitherClient, gateway: GatewayFixture) -> None:
    await client.transcribe(b"RIFF", use_saved_voices=True)
    await client.transcribe(b"RIFF")
    job = await client.submit(b"RIFF", use_saved_voices=True)

    assert [config.use_saved_voices for config in gateway.script.configs] == [True, False]
    assert gateway.jobs.records[job.id].request.config.use_saved_voices
