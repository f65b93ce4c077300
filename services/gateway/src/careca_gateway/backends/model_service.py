"""The clients of the two model services, the transcriber and the diarizer. Their protos differ in names only."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

from careca import codec
from careca.types import (
    CacheClearance,
    ClearScope,
    ClusteredVoices,
    DiarizationOptions,
    DiarizedWindow,
    MemoryRelease,
    ModelServiceStats,
    ReadWindow,
    Scheduling,
    TranscriptionOptions,
    VoicesToCluster,
    WindowToDiarize,
    WindowToRead,
)
from careca.v1 import audio_pb2, diarizer_pb2, diarizer_pb2_grpc, transcriber_pb2, transcriber_pb2_grpc
from careca_gateway.backends.addresses import display_address
from careca_gateway.backends.calls import AudioCall, call_unary, call_window
from careca_gateway.backends.replicas import Replica, Replicas
from careca_gateway.pipeline.port import StageResult
from careca_gateway.request import Deadline, PipelineEvent
from careca_gateway.storage.held_recording import StoredAudio

O = TypeVar("O")  # noqa: E741 - options, as in the pipeline
M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class _Protocol:
    """The names in which the protos of the services differ."""

    stub: Callable[[Any], Any]
    messages: Any
    """The module with the service's messages."""
    prefix: str
    """The beginning of the names of the messages for operators."""
    method: str
    """The method that takes audio."""
    request: Any
    """The request of that method."""
    encode_options: Callable[[Any], Any]
    options_field: str
    """The path of the options in the gateway's own request, for error messages."""
    result_field: str
    """The field of the result with what the model found."""


class ModelServiceClient(Generic[O, M]):
    """A model service, which may have several replicas. All methods raise ``CarecaError``."""

    _protocol: ClassVar[_Protocol]

    def __init__(self, replicas: Replicas, scheduling: Scheduling | None = None) -> None:
        """``scheduling`` says when services work on the audio; the default is interactive, without a submitter."""
        self._replicas = replicas
        self._scheduling = scheduling or Scheduling()

    def scheduled(self, scheduling: Scheduling) -> Self:
        """Returns a client of the same replicas with another scheduling."""
        return type(self)(self._replicas, scheduling)

    async def run(
        self, audio: StoredAudio, options: O, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | StageResult[M], None]:
        """Yields progress and finished segments, and lastly the message with what the model found."""
        protocol = self._protocol
        call = self._call_with_audio(self._config(audio, options, audio_pb2.CacheControl(skip_cache=skip_cache)), audio)
        async with aclosing(call.responses(deadline)) as responses:
            async for response in responses:
                match response.WhichOneof("message"):
                    case "progress":
                        yield codec.decode_progress(response.progress)
                    case "segment":
                        yield codec.decode_segment(response.segment)
                    case _:
                        yield StageResult(getattr(response.result, protocol.result_field), response.result.cached)

    async def prepare(self, audio: StoredAudio, options: O, deadline: Deadline) -> None:
        """Has a replica compute what a longer audio needs too that begins with ``audio``. Nothing is cached."""
        config = self._config(audio, options, audio_pb2.CacheControl(prepare=True))
        async with aclosing(self._call_with_audio(config, audio).responses(deadline)) as responses:
            async for _ in responses:
                pass

    def _config(self, audio: StoredAudio, options: O, cache_control: audio_pb2.CacheControl) -> Any:
        return self._protocol.request.Config(
            audio=codec.encode_digest(audio.digest),
            options=self._protocol.encode_options(options),
            cache_control=cache_control,
            scheduling=codec.encode_scheduling(self._scheduling),
        )

    def _call_with_audio(self, config: Any, audio: StoredAudio) -> AudioCall[Any, Any]:
        protocol = self._protocol
        return AudioCall(
            self._replicas,
            lambda channel: getattr(protocol.stub(channel), protocol.method),
            config=protocol.request(config=config),
            chunk=lambda data: protocol.request(audio_chunk=data),
            audio=audio.path,
            options_field=protocol.options_field,
        )

    def replicas(self) -> Sequence[ModelServiceReplica]:
        """Returns all replicas, the best one to call first. Unavailable replicas are included."""
        return [ModelServiceReplica(self._protocol, replica) for replica in self._replicas.all]

    async def available(self) -> Sequence[ModelServiceReplica]:
        """Returns all available replicas, the best one to call first; all replicas if none is available."""
        return [ModelServiceReplica(self._protocol, replica) for replica in await self._replicas.available()]


class TranscriberClient(ModelServiceClient[TranscriptionOptions, audio_pb2.Transcript]):
    """The transcriber."""

    _protocol = _Protocol(
        stub=transcriber_pb2_grpc.TranscriberServiceStub,
        messages=transcriber_pb2,
        prefix="TranscriberService",
        method="Transcribe",
        request=transcriber_pb2.TranscriberServiceTranscribeRequest,
        encode_options=codec.encode_transcription_options,
        options_field="config.transcription",
        result_field="transcript",
    )

    async def read_window(self, audio: bytes, window: WindowToRead) -> ReadWindow:
        """Returns what is said in a window of live audio: 16 kHz mono 16-bit PCM."""
        request = codec.encode_window_to_read(audio, window)
        request.scheduling.CopyFrom(codec.encode_scheduling(self._scheduling))
        return codec.decode_read_window(
            await call_window(
                self._replicas, lambda channel: transcriber_pb2_grpc.TranscriberServiceStub(channel).ReadWindow, request
            )
        )


class DiarizerClient(ModelServiceClient[DiarizationOptions, audio_pb2.Diarization]):
    """The diarizer."""

    _protocol = _Protocol(
        stub=diarizer_pb2_grpc.DiarizerServiceStub,
        messages=diarizer_pb2,
        prefix="DiarizerService",
        method="Diarize",
        request=diarizer_pb2.DiarizeRequest,
        encode_options=codec.encode_diarization_options,
        options_field="config.diarization",
        result_field="diarization",
    )

    async def diarize_window(self, audio: bytes, window: WindowToDiarize) -> DiarizedWindow:
        """Returns who speaks when in a window of live audio: 16 kHz mono 16-bit PCM."""
        request = diarizer_pb2.DiarizeWindowRequest(
            audio=audio,
            scheduling=codec.encode_scheduling(self._scheduling),
            voices_from=codec.encode_duration(window.voices_from),
        )
        return codec.decode_diarized_window(
            await call_window(
                self._replicas, lambda channel: diarizer_pb2_grpc.DiarizerServiceStub(channel).DiarizeWindow, request
            )
        )

    async def cluster_voices(self, voices: VoicesToCluster) -> ClusteredVoices:
        """Returns which pieces of speech have the same voice."""
        request = codec.encode_voices_to_cluster(voices)
        request.scheduling.CopyFrom(codec.encode_scheduling(self._scheduling))
        return codec.decode_clustered_voices(
            await call_window(
                self._replicas, lambda channel: diarizer_pb2_grpc.DiarizerServiceStub(channel).ClusterVoices, request
            )
        )


class ModelServiceReplica:
    """The operators' calls of one replica. All methods raise ``CarecaError``."""

    def __init__(self, protocol: _Protocol, replica: Replica) -> None:
        self.address = display_address(replica.address)
        self._protocol = protocol
        self._stub = protocol.stub(replica)

    async def stats(self, deadline: Deadline) -> ModelServiceStats:
        """Returns the current state of the service and of its cache."""
        return codec.decode_model_service_stats((await self._call("Stats", deadline)).stats)

    async def clear_cache(self, scope: ClearScope, deadline: Deadline) -> tuple[CacheClearance, MemoryRelease]:
        """Clears the service's cache. The scope ``ALL`` also unloads its models."""
        response = await self._call("ClearCache", deadline, scope=codec.encode_clear_scope(scope))
        return codec.decode_clearance(response.clearance)

    async def release_memory(self, deadline: Deadline) -> MemoryRelease:
        """Unloads the service's models and releases their memory."""
        return codec.decode_memory_release((await self._call("ReleaseMemory", deadline)).memory)

    async def _call(self, method: str, deadline: Deadline, **fields: Any) -> Any:
        request = getattr(self._protocol.messages, f"{self._protocol.prefix}{method}Request")(**fields)
        return await call_unary(getattr(self._stub, method), request, deadline)
