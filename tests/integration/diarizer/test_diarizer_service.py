"""The diarizer service with a real server, a real Redis and a scripted engine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest

from careca import codec
from careca.errors import Cancelled, DeadlineExceeded, InvalidRequest, OutOfMemory
from careca.inference.engine import Work
from careca.rpc.channel import create_channel
from careca.rpc.statuses import translated_errors
from careca.types import (
    CacheClearance,
    ClearScope,
    Diarization,
    DiarizationOptions,
    MemoryRelease,
    ModelServiceStats,
    Progress,
    Speaker,
    SpeakerCountCandidate,
    Stage,
)
from careca.v1 import admin_pb2, audio_pb2, diarizer_pb2, diarizer_pb2_grpc
from careca_diarizer.settings import DiarizerSettings
from support.fakes import ANA, BOB, EMBEDDING_MODEL, TURNS, FakeDiarizerEngine, digest_of, pcm
from support.stack import ModelService
from support.waiting import HANG_SECONDS, happens, longer_and_longer

AUDIO = pcm()
Request = diarizer_pb2.DiarizeRequest
Response = diarizer_pb2.DiarizeResponse


class CountingEngine(FakeDiarizerEngine):
    """Its results have candidates for the number of speakers."""

    def infer(self, *arguments: Any) -> Work[Diarization]:
        candidates = (SpeakerCountCandidate(1, None), SpeakerCountCandidate(2, 0.75))
        return replace((yield from super().infer(*arguments)), candidates=candidates)


class Caller:
    """Calls with plain gRPC, like a client in any language."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = diarizer_pb2_grpc.DiarizerServiceStub(channel)

    async def diarize(
        self,
        data: bytes = AUDIO,
        *,
        within: float = HANG_SECONDS,
        on_response: Callable[[Response], object] = lambda _: None,
        **config: Any,
    ) -> list[Response]:
        """All messages about ``data``, which is sent if it is asked for."""
        opening = Request.Config(**{"audio": codec.encode_digest(digest_of(data)), **config})
        call = self.stub.Diarize(timeout=within)
        responses = []
        with translated_errors():
            await call.write(Request(config=opening))
            while isinstance(response := await call.read(), Response):
                responses.append(response)
                on_response(response)
                if response.HasField("audio_needed"):
                    await call.write(Request(audio_chunk=data))
                    await call.done_writing()
        return responses

    async def stats(self) -> ModelServiceStats:
        with translated_errors():
            answer = await self.stub.Stats(diarizer_pb2.DiarizerServiceStatsRequest(), timeout=HANG_SECONDS)
        return codec.decode_model_service_stats(answer.stats)

    async def clear_cache(self, scope: admin_pb2.ClearScope.ValueType) -> tuple[CacheClearance, MemoryRelease]:
        with translated_errors():
            request = diarizer_pb2.DiarizerServiceClearCacheRequest(scope=scope)
            answer = await self.stub.ClearCache(request, timeout=HANG_SECONDS)
        return codec.decode_clearance(answer.clearance)

    async def release_memory(self) -> MemoryRelease:
        with translated_errors():
            request = diarizer_pb2.DiarizerServiceReleaseMemoryRequest()
            answer = await self.stub.ReleaseMemory(request, timeout=HANG_SECONDS)
        return codec.decode_memory_release(answer.memory)


@pytest.fixture
async def service(redis_url: str) -> AsyncIterator[ModelService]:
    service = ModelService(CountingEngine())
    await service.start(redis_url)
    yield service
    await service.stop()


@pytest.fixture
async def caller(service: ModelService) -> AsyncIterator[Caller]:
    async with create_channel(f"127.0.0.1:{service.port}") as channel:
        yield Caller(channel)


def kinds(responses: Sequence[Response]) -> list[str | None]:
    return [response.WhichOneof("message") for response in responses]


async def test_audio_is_requested_then_progress_and_the_diarization_are_sent(caller: Caller) -> None:
    responses = await caller.diarize()

    assert kinds(responses)[0] == "audio_needed"
    assert set(kinds(responses)[1:-1]) == {"progress"}
    assert codec.decode_progress(responses[1].progress) == Progress(Stage.DIARIZE, 0.0)
    assert kinds(responses)[-1] == "result"
    assert not responses[-1].result.cached
    diarization = codec.decode_diarization(responses[-1].result.diarization)
    assert diarization.turns == TURNS
    assert diarization.speakers == (
        Speaker("SPEAKER_00", ANA, EMBEDDING_MODEL),
        Speaker("SPEAKER_01", BOB, EMBEDDING_MODEL),
    )
    assert diarization.duration == 2.0


async def test_the_numbers_of_speakers_considered_come_with_their_scores(caller: Caller) -> None:
    responses = await caller.diarize()

    candidates = codec.decode_diarization(responses[-1].result.diarization).candidates
    assert candidates == (SpeakerCountCandidate(1, None), SpeakerCountCandidate(2, 0.75))


async def test_the_second_call_is_answered_from_the_cache_in_one_message(service: ModelService, caller: Caller) -> None:
    first = await caller.diarize()

    second = await caller.diarize()

    assert kinds(second) == ["result"]
    assert second[0].result.cached
    assert second[0].result.diarization == first[-1].result.diarization
    assert service.engine.inferences == 1


async def test_skip_cache_computes_again(service: ModelService, caller: Caller) -> None:
    await caller.diarize()

    responses = await caller.diarize(cache_control=audio_pb2.CacheControl(skip_cache=True))

    assert kinds(responses)[0] == "audio_needed"
    assert service.engine.inferences == 2


async def test_other_speaker_options_are_computed_anew_and_reach_the_engine(
    service: ModelService, caller: Caller
) -> None:
    asked = [
        DiarizationOptions(speaker_count=3),
        DiarizationOptions(min_speaker_count=2, max_speaker_count=4),
        DiarizationOptions(),
    ]

    for options in asked:
        await caller.diarize(options=codec.encode_diarization_options(options))

    assert service.engine.options == asked


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"options": audio_pb2.DiarizationOptions(speaker_count=0)}, "config.options.speaker_count"),
        ({"options": audio_pb2.DiarizationOptions(max_speaker_count=51)}, "config.options.max_speaker_count"),
        ({"audio": audio_pb2.Digest(sha256="no digest", size_bytes=2)}, "config.audio.sha256"),
        ({"audio": codec.encode_digest(digest_of(b"odd"))}, "config.audio.size_bytes"),
    ],
)
async def test_invalid_requests_are_refused_by_field_before_any_audio_is_sent(
    service: ModelService, caller: Caller, config: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await caller.diarize(on_response=lambda _: pytest.fail("nothing is to be said"), **config)

    assert refusal.value.field == field
    assert service.engine.inferences == 0


@pytest.mark.parametrize(
    "options",
    [
        audio_pb2.DiarizationOptions(min_speaker_count=3, max_speaker_count=2),
        audio_pb2.DiarizationOptions(speaker_count=2, min_speaker_count=2),
        audio_pb2.DiarizationOptions(speaker_count=2, max_speaker_count=2),
    ],
)
async def test_speaker_options_that_contradict_each_other_are_refused(
    service: ModelService, caller: Caller, options: audio_pb2.DiarizationOptions
) -> None:
    with pytest.raises(InvalidRequest):
        await caller.diarize(options=options)

    assert service.engine.inferences == 0


async def test_an_error_of_the_engine_reaches_the_caller_and_is_not_cached(
    service: ModelService, caller: Caller
) -> None:
    service.engine.failures.append(OutOfMemory("cuda:0 has too little memory"))

    with pytest.raises(OutOfMemory, match="too little memory"):
        await caller.diarize()

    assert kinds(await caller.diarize())[-1] == "result"


async def test_a_deadline_stops_the_engine(service: ModelService, caller: Caller) -> None:
    service.engine.may_go_on.clear()

    deadlines = longer_and_longer(0.5)
    while not service.engine.started.is_set():
        with pytest.raises(DeadlineExceeded):
            await caller.diarize(within=next(deadlines))

    await caller.release_memory()  # waits until nothing computes
    assert service.engine.cancellations == service.engine.inferences
    assert service.engine.running == 0


async def test_a_caller_that_disconnects_frees_the_engine(service: ModelService, caller: Caller) -> None:
    service.engine.may_go_on.clear()
    call = asyncio.create_task(caller.diarize())
    await happens(service.engine.started)

    call.cancel()
    with pytest.raises((asyncio.CancelledError, Cancelled)):
        await call

    await caller.release_memory()  # waits until nothing computes
    service.engine.may_go_on.set()
    assert kinds(await caller.diarize())[-1] == "result"


async def test_statistics_contain_the_model_and_the_cache(service: ModelService, caller: Caller) -> None:
    await caller.diarize()
    await caller.diarize()

    stats = await caller.stats()

    assert (stats.model, stats.device, stats.models_loaded) == (service.engine.model, "cpu", True)
    assert (stats.cache.available, stats.cache.entries, stats.cache.hits, stats.cache.misses) == (True, 1, 1, 1)


async def test_clearing_the_whole_cache_unloads_the_models_and_makes_the_next_call_compute(
    service: ModelService, caller: Caller
) -> None:
    await caller.diarize()

    clearance, memory = await caller.clear_cache(codec.encode_clear_scope(ClearScope.ALL))

    assert clearance.removed_entries == 1
    assert memory.models_unloaded
    assert not service.engine.loaded
    assert kinds(await caller.diarize())[0] == "audio_needed"


async def test_clearing_expired_entries_leaves_the_others_and_the_models(service: ModelService, caller: Caller) -> None:
    await caller.diarize()

    clearance, memory = await caller.clear_cache(codec.encode_clear_scope(ClearScope.EXPIRED))

    assert clearance.removed_entries == 0
    assert not memory.models_unloaded
    assert kinds(await caller.diarize()) == ["result"]


async def test_clearing_without_a_scope_is_refused(caller: Caller) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await caller.clear_cache(admin_pb2.CLEAR_SCOPE_UNSPECIFIED)

    assert refusal.value.field == "scope"


async def test_memory_is_released_and_the_next_call_loads_the_models_again(caller: Caller) -> None:
    assert (await caller.release_memory()).models_unloaded
    assert not (await caller.stats()).models_loaded

    assert kinds(await caller.diarize())[-1] == "result"
    assert (await caller.stats()).models_loaded


def test_help_names_every_setting_without_loading_a_model_library() -> None:
    program = (
        "import sys, runpy; sys.argv = ['careca_diarizer', '--help']\n"
        "try: runpy.run_module('careca_diarizer', run_name='__main__')\n"
        "finally: assert not {'torch', 'pyannote.audio', 'sklearn'} & set(sys.modules)\n"
    )

    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=HANG_SECONDS, check=True
    )

    for name in DiarizerSettings.model_fields:
        assert f"CARECA_{name.upper()}" in shown.stdout
