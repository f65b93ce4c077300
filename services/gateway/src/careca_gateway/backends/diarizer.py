"""The diarizer, reached by gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from careca import codec
from careca.types import CacheClearance, ClearScope, DiarizationOptions, MemoryRelease, ModelServiceStats
from careca.v1 import audio_pb2, diarizer_pb2, diarizer_pb2_grpc
from careca_gateway.backends.addresses import shown
from careca_gateway.backends.calls import AudioCall, ask
from careca_gateway.backends.replicas import Replica, Replicas
from careca_gateway.pipeline.pipeline import StageResult
from careca_gateway.request import Deadline, PipelineEvent
from careca_gateway.storage.store import StoredAudio

_AudioRequest = diarizer_pb2.DiarizeRequest


class DiarizerClient:
    """The diarizer, of which there may be several replicas. All methods raise ``CarecaError``."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def run(
        self, audio: StoredAudio, options: DiarizationOptions, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | StageResult[audio_pb2.Diarization], None]:
        """Diarizes ``audio``: progress, lastly the diarization's message."""
        config = _AudioRequest.Config(
            audio=codec.encode_digest(audio.digest),
            options=codec.encode_diarization_options(options),
            cache_control=audio_pb2.CacheControl(skip_cache=skip_cache),
        )
        call = AudioCall(
            self._replicas,
            lambda channel: diarizer_pb2_grpc.DiarizerServiceStub(channel).Diarize,
            config=_AudioRequest(config=config),
            chunk=lambda data: _AudioRequest(audio_chunk=data),
            audio=audio.path,
            options_field="config.diarization",
        )
        async with aclosing(call.responses(deadline)) as responses:
            async for response in responses:
                if response.HasField("progress"):
                    yield codec.decode_progress(response.progress)
                else:
                    yield StageResult(response.result.diarization, response.result.cached)

    def replicas(self) -> Sequence[DiarizerReplica]:
        """All replicas, the best to ask first, those that are away among them."""
        return [DiarizerReplica(replica) for replica in self._replicas.all]

    async def present(self) -> Sequence[DiarizerReplica]:
        """All replicas that are not away, the best to ask first; where all are away, all."""
        return [DiarizerReplica(replica) for replica in await self._replicas.present()]


class DiarizerReplica:
    """One diarizer, as operators see it. All methods raise ``CarecaError``."""

    def __init__(self, replica: Replica) -> None:
        self.address = shown(replica.address)
        self._stub = diarizer_pb2_grpc.DiarizerServiceStub(replica)

    async def stats(self, deadline: Deadline) -> ModelServiceStats:
        """The live state of the service and its cache."""
        response = await ask(self._stub.Stats, diarizer_pb2.DiarizerServiceStatsRequest(), deadline)
        return codec.decode_model_service_stats(response.stats)

    async def clear_cache(self, scope: ClearScope, deadline: Deadline) -> tuple[CacheClearance, MemoryRelease]:
        """Clears the service's cache; ``ALL`` unloads its models too."""
        request = diarizer_pb2.DiarizerServiceClearCacheRequest(scope=codec.encode_clear_scope(scope))
        response = await ask(self._stub.ClearCache, request, deadline)
        return codec.decode_clearance(response.clearance)

    async def release_memory(self, deadline: Deadline) -> MemoryRelease:
        """Unloads the service's models and gives their memory back."""
        request = diarizer_pb2.DiarizerServiceReleaseMemoryRequest()
        response = await ask(self._stub.ReleaseMemory, request, deadline)
        return codec.decode_memory_release(response.memory)
