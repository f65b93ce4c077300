"""Everything that can be checked without the recording is checked before the upload, in calls and in jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from careca.errors import InvalidRequest
from careca.rpc.statuses import translated_errors
from careca.v1 import audio_pb2, gateway_pb2, jobs_pb2
from support.media import tone, wav
from support.redis_server import RedisServer
from support.stack import Stack, config_for
from support.submitters import submitting

RECORDING = wav(tone(1.0))
KNOWN = gateway_pb2.KnownSpeaker
Transcription, Diarization = audio_pb2.TranscriptionOptions, audio_pb2.DiarizationOptions

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"display_name": "two\nlines"}, "display_name"),
    ({"formats": [gateway_pb2.OUTPUT_FORMAT_TXT, 99]}, "formats[1]"),
    ({"channel_mode": 99}, "channel_mode"),
    ({"transcription": Transcription(language_code="Portugese")}, "transcription.language_code"),
    ({"transcription": Transcription(initial_prompt="x" * 1001)}, "transcription.initial_prompt"),
    ({"transcription": Transcription(hotwords=["x"] * 101)}, "transcription.hotwords"),
    ({"transcription": Transcription(hotwords=["x", ""])}, "transcription.hotwords[1]"),
    ({"transcription": Transcription(beam_size=21)}, "transcription.beam_size"),
    ({"diarization": Diarization(speaker_count=51)}, "diarization.speaker_count"),
    ({"diarization": Diarization(min_speaker_count=0)}, "diarization.min_speaker_count"),
    ({"diarization": Diarization(max_speaker_count=51)}, "diarization.max_speaker_count"),
    ({"diarization": Diarization(min_speaker_count=3, max_speaker_count=2)}, "diarization.min_speaker_count"),
    ({"diarization": Diarization(speaker_count=3, max_speaker_count=3)}, "diarization.speaker_count"),
    (
        {"channel_mode": gateway_pb2.CHANNEL_MODE_SEPARATE, "diarization": Diarization(speaker_count=2)},
        "diarization.speaker_count",
    ),
    ({"known_speakers": [KNOWN(name="Ana")]}, "known_speakers[0].recording"),
    ({"known_speakers": [KNOWN(name="SPEAKER_00", recording=b"x")]}, "known_speakers[0].name"),
    ({"known_speakers": [KNOWN(name="Ana", recording=b"x")] * 2}, "known_speakers[1].name"),
    (
        {"known_speakers": [KNOWN(name="Ana", voice=gateway_pb2.Voice(embedding=[0.0], embedding_model="m"))]},
        "known_speakers[0].voice.embedding",
    ),
]

IDS = [f"{field} {index}" for index, (_, field) in enumerate(REFUSED)]


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Stack]:
    secret = tmp_path / "secret"
    secret.write_text("a secret to sign webhooks with, long enough")
    settings = {"webhook_secret_file": secret}
    async with Stack(tmp_path, redis_server.url, jobs=True, gateway_settings=settings) as stack:
        yield stack


@pytest.mark.parametrize(("asked", "field"), REFUSED, ids=IDS)
async def test_an_invalid_option_is_refused_before_the_upload(stack: Stack, asked: dict[str, Any], field: str) -> None:
    answered: list[Any] = []
    opening = config_for(RECORDING, **asked)

    async with stack.caller() as caller:
        with pytest.raises(InvalidRequest) as called:
            await caller.converse([opening], [RECORDING], on_response=answered.append)
    async with submitting(stack, "ana") as ana:
        with pytest.raises(InvalidRequest) as submitted, translated_errors():
            await ana.jobs.SubmitJob(jobs_pb2.SubmitJobRequest(config=opening.config), **ana.terms)

    assert called.value.field == submitted.value.field == f"config.{field}"
    assert answered == []


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"webhook_url": "ftp://example.org"}, "webhook_url"),
        ({"request_id": "a b"}, "request_id"),
        ({"priority": 9}, "priority"),
    ],
)
async def test_an_invalid_job_is_refused_before_the_upload(stack: Stack, asked: dict[str, Any], field: str) -> None:
    request = jobs_pb2.SubmitJobRequest(config=config_for(RECORDING).config, **asked)

    async with submitting(stack, "ana") as ana:
        with pytest.raises(InvalidRequest) as submitted, translated_errors():
            await ana.jobs.SubmitJob(request, **ana.terms)

    assert submitted.value.field == field


async def test_all_ways_to_write_a_language_share_one_cached_result(stack: Stack) -> None:
    async with stack.caller() as caller:
        for written in ("pt", "pt-BR", "PT", "Portuguese", "português", "por"):
            asked = Transcription(language_code=written)
            assert (await caller.transcribe(RECORDING, transcription=asked)).result.language == "pt"

    assert stack.transcriber.engine.inferences == 1  # type: ignore[attr-defined]
