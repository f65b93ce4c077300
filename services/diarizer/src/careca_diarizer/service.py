"""The diarizer's gRPC servicer. It only converts messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio

from careca import codec
from careca.inference.cached_stage import AudioNeeded, CachedStage, Finished
from careca.rpc.upload_stream import open_upload
from careca.types import Diarization, DiarizationOptions, Progress, Segment, WindowToDiarize
from careca.v1 import audio_pb2, diarizer_pb2, diarizer_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
DiarizeStage = CachedStage[DiarizationOptions, Diarization, audio_pb2.Diarization]
Event = AudioNeeded | Progress | Segment | Finished[audio_pb2.Diarization]


class DiarizerServicer(diarizer_pb2_grpc.DiarizerServiceServicer):
    """Audio in, turns with speakers out."""

    def __init__(self, stage: DiarizeStage) -> None:
        self._stage = stage

    async def Diarize(
        self, request_iterator: AsyncIterator[diarizer_pb2.DiarizeRequest], context: Context
    ) -> AsyncIterator[diarizer_pb2.DiarizeResponse]:
        """Diarizes one recording: see diarizer.proto."""
        config, chunks = await open_upload(request_iterator)
        audio = codec.decode_digest(config.audio, "config.audio")
        options = codec.decode_diarization_options(config.options)
        if config.cache_control.prepare:
            scheduling = codec.decode_scheduling(config.scheduling)
            preparing = self._stage.prepare(audio, options, scheduling=scheduling, chunks=chunks)
            async with aclosing(preparing) as needs:
                async for need in needs:
                    yield encode_event(need)
            yield diarizer_pb2.DiarizeResponse(result=diarizer_pb2.DiarizeResponse.Result())
            return
        running = self._stage.run(
            audio,
            options,
            scheduling=codec.decode_scheduling(config.scheduling),
            skip_cache=config.cache_control.skip_cache,
            chunks=chunks,
        )
        async with aclosing(running) as events:
            async for event in events:
                yield encode_event(event)

    async def DiarizeWindow(
        self, request: diarizer_pb2.DiarizeWindowRequest, context: Context
    ) -> diarizer_pb2.DiarizeWindowResponse:
        """Diarizes a window of live audio: see diarizer.proto."""
        audio = codec.decode_window(request.audio, codec.MAX_DIARIZED_SECONDS)
        window = WindowToDiarize(codec.decode_duration(request.voices_from))
        scheduling = codec.decode_scheduling(request.scheduling, "scheduling")
        found = await self._stage.compute_window(audio, window, scheduling)
        return codec.encode_diarized_window(found)

    async def ClusterVoices(
        self, request: diarizer_pb2.ClusterVoicesRequest, context: Context
    ) -> diarizer_pb2.ClusterVoicesResponse:
        """Finds which pieces have the same voice: see diarizer.proto."""
        voices = codec.decode_voices_to_cluster(request)
        scheduling = codec.decode_scheduling(request.scheduling, "scheduling")
        return codec.encode_clustered_voices(await self._stage.compute_window(b"", voices, scheduling))

    async def Stats(
        self, request: diarizer_pb2.DiarizerServiceStatsRequest, context: Context
    ) -> diarizer_pb2.DiarizerServiceStatsResponse:
        """Returns the current state."""
        stats = codec.encode_model_service_stats(await self._stage.stats())
        return diarizer_pb2.DiarizerServiceStatsResponse(stats=stats)

    async def ClearCache(
        self, request: diarizer_pb2.DiarizerServiceClearCacheRequest, context: Context
    ) -> diarizer_pb2.DiarizerServiceClearCacheResponse:
        """Clears the cache."""
        clearance, memory = await self._stage.clear_cache(codec.decode_clear_scope(request.scope))
        return diarizer_pb2.DiarizerServiceClearCacheResponse(clearance=codec.encode_clearance(clearance, memory))

    async def ReleaseMemory(
        self, request: diarizer_pb2.DiarizerServiceReleaseMemoryRequest, context: Context
    ) -> diarizer_pb2.DiarizerServiceReleaseMemoryResponse:
        """Unloads the model and releases memory."""
        memory = codec.encode_memory_release(await self._stage.release_memory())
        return diarizer_pb2.DiarizerServiceReleaseMemoryResponse(memory=memory)


def encode_event(event: Event) -> diarizer_pb2.DiarizeResponse:
    """Returns the message of an event."""
    response = diarizer_pb2.DiarizeResponse
    match event:
        case Progress():
            return response(progress=codec.encode_progress(event))
        case Finished():
            return response(result=response.Result(diarization=event.message, cached=event.cached))
        case AudioNeeded():
            return response(audio_needed=response.AudioNeeded())
        case Segment():
            raise TypeError("a diarizer emits no segments")
