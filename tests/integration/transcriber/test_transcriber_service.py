"""The transcriber service with a real server, a real Redis and a scripted engine."""

import asyncio

import grpc
import pytest

from careca import codec
from careca.errors import Cancelled, DeadlineExceeded, InvalidRequest, OutOfMemory, Unavailable
from careca.rpc.channel import create_channel
from careca.rpc.statuses import translated_errors
from careca.types import ClearScope, Progress, Stage, TranscriptionOptions
from careca.v1 import admin_pb2, audio_pb2, transcriber_pb2, transcriber_pb2_grpc
from support.fakes import SEGMENTS, FakeTranscriberEngine, digest_of, pcm
from support.stack import ModelService
from support.waiting import HANG_SECONDS, happens, longer_and_longer

AUDIO = pcm()
Request = transcriber_pb2.TranscriberServiceTranscribeRequest


class Caller:
    """Calls with plain gRPC, like a client in any language."""

    def __init__(self, channel):
        self.stub = transcriber_pb2_grpc.TranscriberServiceStub(channel)

    async def transcribe(self, data=AUDIO, *, within=HANG_SECONDS, on_response=lambda _: None, **config):
        """All messages about ``data``, which is sent if it is asked for."""
        config = Request.Config(**{"audio": codec.encode_digest(digest_of(data)), **config})
        call = self.stub.Transcribe(timeout=within)
        responses = []
        with translated_errors():
            await call.write(Request(config=config))
            while (response := await call.read()) is not grpc.aio.EOF:
                responses.append(response)
                on_response(response)
                if response.HasField("audio_needed"):
                    await call.write(Request(audio_chunk=data))
                    await call.done_writing()
        return responses

    async def stats(self):
        with translated_errors():
            answer = await self.stub.Stats(transcriber_pb2.TranscriberServiceStatsRequest(), timeout=HANG_SECONDS)
        return codec.decode_model_service_stats(answer.stats)

    async def clear_cache(self, scope):
        with translated_errors():
            request = transcriber_pb2.TranscriberServiceClearCacheRequest(scope=scope)
            answer = await self.stub.ClearCache(request, timeout=HANG_SECONDS)
        return codec.decode_clearance(answer.clearance)

    async def release_memory(self):
        with translated_errors():
            request = transcriber_pb2.TranscriberServiceReleaseMemoryRequest()
            answer = await self.stub.ReleaseMemory(request, timeout=HANG_SECONDS)
        return codec.decode_memory_release(answer.memory)


@pytest.fixture
async def service(redis_url):
    service = ModelService(FakeTranscriberEngine())
    await service.start(redis_url)
    yield service
    await service.stop()


@pytest.fixture
async def caller(service):
    async with create_channel(f"127.0.0.1:{service.port}") as channel:
        yield Caller(channel)


def kinds(responses):
    return [response.WhichOneof("message") for response in responses]


async def test_audio_is_requested_then_progress_segments_and_the_transcript_are_sent(caller):
    responses = await caller.transcribe()

    assert kinds(responses)[0] == "audio_needed"
    assert kinds(responses)[-1] == "result"
    progress = [codec.decode_progress(response.progress) for response in responses if response.HasField("progress")]
    assert progress[0] == Progress(Stage.TRANSCRIBE, 0.0)
    segments = [codec.decode_segment(response.segment) for response in responses if response.HasField("segment")]
    assert [segment.text for segment in segments] == [segment.text for segment in SEGMENTS]
    assert not responses[-1].result.cached
    transcript = codec.decode_transcript(responses[-1].result.transcript)
    assert [word.text for segment in transcript.segments for word in segment.words] == [
        "hello",
        "there",
        "good",
        "morning",
    ]
    assert transcript.duration == 2.0


async def test_the_second_call_is_answered_from_the_cache_in_one_message(service, caller):
    first = await caller.transcribe()

    second = await caller.transcribe()

    assert kinds(second) == ["result"]
    assert second[0].result.cached
    assert second[0].result.transcript == first[-1].result.transcript
    assert service.engine.inferences == 1


async def test_skip_cache_computes_again(service, caller):
    await caller.transcribe()

    responses = await caller.transcribe(cache_control=audio_pb2.CacheControl(skip_cache=True))

    assert kinds(responses)[0] == "audio_needed"
    assert service.engine.inferences == 2


async def test_options_reach_the_engine_unchanged(service, caller):
    options = TranscriptionOptions(
        language="pt", translate=True, initial_prompt="Futebol.", hotwords=("Careca", "Maradona"), beam_size=2
    )

    await caller.transcribe(options=codec.encode_transcription_options(options))
    await caller.transcribe(options=audio_pb2.TranscriptionOptions(language_code="en"))

    assert service.engine.options == [options, TranscriptionOptions(language="en")]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"options": audio_pb2.TranscriptionOptions(beam_size=21)}, "config.options.beam_size"),
        ({"options": audio_pb2.TranscriptionOptions(language_code="Klingon")}, "config.options.language_code"),
        ({"audio": audio_pb2.Digest(sha256="no digest", size_bytes=2)}, "config.audio.sha256"),
        ({"audio": codec.encode_digest(digest_of(b"odd"))}, "config.audio.size_bytes"),
    ],
)
async def test_invalid_requests_are_refused_by_field_before_any_audio_is_sent(service, caller, config, field):
    with pytest.raises(InvalidRequest) as refusal:
        await caller.transcribe(on_response=lambda _: pytest.fail("nothing is to be said"), **config)

    assert refusal.value.field == field
    assert service.engine.inferences == 0


async def test_an_error_of_the_engine_reaches_the_caller_and_is_not_cached(service, caller):
    service.engine.failures.append(OutOfMemory("cpu has too little memory"))

    with pytest.raises(OutOfMemory, match="too little memory"):
        await caller.transcribe()

    assert kinds(await caller.transcribe())[-1] == "result"


async def test_a_deadline_stops_the_engine(service, caller):
    service.engine.may_go_on.clear()

    deadlines = longer_and_longer(0.5)
    while not service.engine.started.is_set():
        with pytest.raises(DeadlineExceeded):
            await caller.transcribe(within=next(deadlines))

    await caller.release_memory()  # waits until nothing computes
    assert service.engine.cancellations == service.engine.inferences
    assert service.engine.running == 0


async def test_a_caller_that_disconnects_frees_the_engine(service, caller):
    service.engine.may_go_on.clear()
    call = asyncio.create_task(caller.transcribe())
    await happens(service.engine.started)

    call.cancel()
    with pytest.raises((asyncio.CancelledError, Cancelled)):
        await call

    await caller.release_memory()  # waits until nothing computes
    service.engine.may_go_on.set()
    assert kinds(await caller.transcribe())[-1] == "result"


async def test_statistics_contain_the_model_and_the_cache(service, caller):
    await caller.transcribe()
    await caller.transcribe()

    stats = await caller.stats()

    assert (stats.model, stats.device, stats.models_loaded) == (service.engine.model, "cpu", True)
    assert (stats.cache.available, stats.cache.entries, stats.cache.hits, stats.cache.misses) == (True, 1, 1, 1)
    assert stats.memory.rss_bytes > 0
    assert stats.in_flight == 0


async def test_clearing_the_whole_cache_unloads_the_model_and_makes_the_next_call_compute(service, caller):
    await caller.transcribe()

    clearance, memory = await caller.clear_cache(codec.encode_clear_scope(ClearScope.ALL))

    assert clearance.removed_entries == 1
    assert memory.models_unloaded
    assert not service.engine.loaded
    assert kinds(await caller.transcribe())[0] == "audio_needed"
    assert service.engine.loads == 2


async def test_clearing_expired_entries_leaves_the_others_and_the_model(service, caller):
    await caller.transcribe()

    clearance, memory = await caller.clear_cache(codec.encode_clear_scope(ClearScope.EXPIRED))

    assert clearance.removed_entries == 0
    assert not memory.models_unloaded
    assert service.engine.loaded
    assert kinds(await caller.transcribe()) == ["result"]


async def test_clearing_without_a_scope_is_refused(service, caller):
    with pytest.raises(InvalidRequest) as refusal:
        await caller.clear_cache(admin_pb2.CLEAR_SCOPE_UNSPECIFIED)

    assert refusal.value.field == "scope"


async def test_memory_is_released_and_the_next_call_loads_the_model_again(service, caller):
    assert (await caller.release_memory()).models_unloaded
    assert not (await caller.stats()).models_loaded

    assert kinds(await caller.transcribe())[-1] == "result"
    assert (await caller.stats()).models_loaded


async def test_a_transcriber_without_redis_works_and_reports_that_it_has_no_cache():
    service = ModelService(FakeTranscriberEngine())
    await service.start("")
    try:
        async with create_channel(f"127.0.0.1:{service.port}") as channel:
            caller = Caller(channel)
            assert kinds(await caller.transcribe())[-1] == "result"
            assert kinds(await caller.transcribe())[0] == "audio_needed"
            assert not (await caller.stats()).cache.available
    finally:
        await service.stop()


async def test_a_transcriber_that_stopped_is_unavailable(service, caller):
    await caller.stats()

    await service.stop()

    with pytest.raises(Unavailable):
        await caller.stats()
