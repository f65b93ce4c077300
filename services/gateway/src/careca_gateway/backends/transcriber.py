"""The transcriber, reached by gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from careca import codec
from careca.types import CacheClearance, ClearScope, MemoryRelease, ModelServiceStats, TranscriptionOptions
from careca.v1 import audio_pb2, transcriber_pb2, transcriber_pb2_grpc
from careca_gateway.backends.addresses import shown
from careca_gateway.backends.calls import AudioCall, ask
from careca_gateway.backends.replicas import Replica, Replicas
from careca_gateway.pipeline.pipeline import StageResult
from careca_gateway.request import Deadline, PipelineEvent
from careca_gateway.storage.store import StoredAudio

_AudioRequest = transcriber_pb2.TranscriberServiceTranscribeRequest


class TranscriberClient:
    """The transcriber, of which there may be several replicas. All methods raise ``CarecaError``."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def run(
        self, audio: StoredAudio, options: TranscriptionOptions, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | StageResult[audio_pb2.Transcript], None]:
        """Transcribes ``audio``: progress and segments, lastly the transcript's message."""
        config = _AudioRequest.Config(
            audio=codec.encode_digest(audio.digest),
            options=codec.encode_transcription_options(options),
            cache_control=audio_pb2.CacheControl(skip_cache=skip_cache),
        )
        call = AudioCall(
            self._replicas,
            lambda channel: transcriber_pb2_grpc.TranscriberServiceStub(channel).Transcribe,
            config=_AudioRequest(config=config),
            chunk=lambda data: _AudioRequest(audio_chunk=data),
            audio=audio.path,
            options_field="config.transcription",
        )
        async with aclosing(call.responses(deadline)) as responses:
            async for response in responses:
                if response.HasField("progress"):
                    yield codec.decode_progress(response.progress)
                elif response.HasField("segment"):
                    yield codec.decode_segment(response.segment)
                else:
                    yield StageResult(response.result.transcript, response.result.cached)

    def replicas(self) -> Sequence[TranscriberReplica]:
        """All replicas, the best to ask first, those that are away among them."""
        return [TranscriberReplica(replica) for replica in self._replicas.all]

    async def present(self) -> Sequence[TranscriberReplica]:
        """All replicas that are not away, the best to ask first; where all are away, all."""
        return [TranscriberReplica(replica) for replica in await self._replicas.present()]


class TranscriberReplica:
    """One transcriber, as operators see it. All methods raise ``CarecaError``."""

    def __init__(self, replica: Replica) -> None:
        self.address = shown(replica.address)
        self._stub = transcriber_pb2_grpc.TranscriberServiceStub(replica)

    async def stats(self, deadline: Deadline) -> ModelServiceStats:
        """The live state of the service and its cache."""
        response = await ask(self._stub.Stats, transcriber_pb2.TranscriberServiceStatsRequest(), deadline)
        return codec.decode_model_service_stats(response.stats)

    async def clear_cache(self, scope: ClearScope, deadline: Deadline) -> tuple[CacheClearance, MemoryRelease]:
        """Clears the service's cache; ``ALL`` unloads its models too."""
        request = transcriber_pb2.TranscriberServiceClearCacheRequest(scope=codec.encode_clear_scope(scope))
        response = await ask(self._stub.ClearCache, request, deadline)
        return codec.decode_clearance(response.clearance)

    async def release_memory(self, deadline: Deadline) -> MemoryRelease:
        """Unloads the service's models and gives their memory back."""
        request = transcriber_pb2.TranscriberServiceReleaseMemoryRequest()
        response = await ask(self._stub.ReleaseMemory, request, deadline)
        return codec.decode_memory_release(response.memory)
