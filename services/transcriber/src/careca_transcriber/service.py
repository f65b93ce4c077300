"""The transcriber's gRPC servicer. It only converts messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio

from careca import codec
from careca.inference.cached_stage import AudioNeeded, CachedStage, Finished
from careca.rpc.upload_stream import open_upload
from careca.types import Progress, Segment, Transcript, TranscriptionOptions
from careca.v1 import audio_pb2, transcriber_pb2, transcriber_pb2_grpc

Response = transcriber_pb2.TranscriberServiceTranscribeResponse
Context = grpc.aio.ServicerContext[Any, Any]
TranscribeStage = CachedStage[TranscriptionOptions, Transcript, audio_pb2.Transcript]
Event = AudioNeeded | Progress | Segment | Finished[audio_pb2.Transcript]


class TranscriberServicer(transcriber_pb2_grpc.TranscriberServiceServicer):
    """Audio in, words with times out."""

    def __init__(self, stage: TranscribeStage) -> None:
        self._stage = stage

    async def Transcribe(
        self, request_iterator: AsyncIterator[transcriber_pb2.TranscriberServiceTranscribeRequest], context: Context
    ) -> AsyncIterator[Response]:
        """Transcribes one recording: see transcriber.proto."""
        config, chunks = await open_upload(request_iterator)
        audio = codec.decode_digest(config.audio, "config.audio")
        options = codec.decode_transcription_options(config.options)
        if config.cache_control.prepare:
            scheduling = codec.decode_scheduling(config.scheduling)
            preparing = self._stage.prepare(audio, options, scheduling=scheduling, chunks=chunks)
            async with aclosing(preparing) as needs:
                async for need in needs:
                    yield encode_event(need)
            yield transcriber_pb2.TranscriberServiceTranscribeResponse(
                result=transcriber_pb2.TranscriberServiceTranscribeResponse.Result()
            )
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

    async def ReadWindow(
        self, request: transcriber_pb2.ReadWindowRequest, context: Context
    ) -> transcriber_pb2.ReadWindowResponse:
        """Reads one window of live audio."""
        audio = codec.decode_window(request.audio, codec.MAX_READ_SECONDS)
        window = codec.decode_window_to_read(request)
        scheduling = codec.decode_scheduling(request.scheduling, "scheduling")
        return codec.encode_read_window(await self._stage.compute_window(audio, window, scheduling))

    async def Stats(
        self, request: transcriber_pb2.TranscriberServiceStatsRequest, context: Context
    ) -> transcriber_pb2.TranscriberServiceStatsResponse:
        """Returns the current state."""
        stats = codec.encode_model_service_stats(await self._stage.stats())
        return transcriber_pb2.TranscriberServiceStatsResponse(stats=stats)

    async def ClearCache(
        self, request: transcriber_pb2.TranscriberServiceClearCacheRequest, context: Context
    ) -> transcriber_pb2.TranscriberServiceClearCacheResponse:
        """Clears the cache."""
        clearance, memory = await self._stage.clear_cache(codec.decode_clear_scope(request.scope))
        return transcriber_pb2.TranscriberServiceClearCacheResponse(clearance=codec.encode_clearance(clearance, memory))

    async def ReleaseMemory(
        self, request: transcriber_pb2.TranscriberServiceReleaseMemoryRequest, context: Context
    ) -> transcriber_pb2.TranscriberServiceReleaseMemoryResponse:
        """Unloads the model and releases memory."""
        memory = codec.encode_memory_release(await self._stage.release_memory())
        return transcriber_pb2.TranscriberServiceReleaseMemoryResponse(memory=memory)


def encode_event(event: Event) -> Response:
    """Returns the message of an event."""
    match event:
        case Segment():
            return Response(segment=codec.encode_segment(event))
        case Progress():
            return Response(progress=codec.encode_progress(event))
        case Finished():
            return Response(result=Response.Result(transcript=event.message, cached=event.cached))
        case AudioNeeded():
            return Response(audio_needed=Response.AudioNeeded())
