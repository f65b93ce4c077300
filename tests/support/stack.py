"""Three real servers in one process, with engines that follow a script: gateway, transcriber and diarizer.

async with Stack(folder) as stack, stack.caller() as caller:
    result = await caller.transcribe(recording)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import grpc.aio

from careca import codec
from careca.inference.audio import Audio
from careca.inference.engine_thread import EngineThread
from careca.inference.shared_engine import CancelToken, Computed, Emit
from careca.rpc.channel import create_channel
from careca.rpc.server import ServiceServer
from careca.rpc.statuses import responses_of
from careca.types import Digest, Result, Scheduling, Segment, Stage
from careca.v1 import (
    admin_pb2_grpc,
    gateway_pb2,
    gateway_pb2_grpc,
    jobs_pb2_grpc,
    recordings_pb2_grpc,
    transcripts_pb2_grpc,
    voices_pb2_grpc,
)
from careca_diarizer.settings import DiarizerSettings
from careca_diarizer.wiring import wire as wire_diarizer
from careca_gateway.ingest.decoder import Decoder
from careca_gateway.settings import GatewaySettings
from careca_gateway.wiring import wire as wire_gateway
from careca_transcriber.settings import TranscriberSettings
from careca_transcriber.wiring import wire as wire_transcriber
from support.fakes import FakeDiarizerEngine, FakeTranscriberEngine, digest_of
from support.redis_server import free_port
from support.waiting import HANG_SECONDS

LOCAL: dict[str, Any] = {"host": "127.0.0.1", "metrics_port": -1, "drain_seconds": 5.0}

Config = gateway_pb2.TranscribeRequest.Config
Response = gateway_pb2.TranscribeResponse
Metadata = Iterable[tuple[str, str]]
Engine = FakeTranscriberEngine | FakeDiarizerEngine


class RecordingEngineThread(EngineThread[Any, Any]):
    """Records how requests are to be scheduled."""

    def __init__(self, engine: Any, scheduled: list[Scheduling]) -> None:
        super().__init__(engine)
        self._scheduled = scheduled

    def infer(
        self, audio: Audio, options: Any, scheduling: Scheduling, cancel: CancelToken, emit: Emit
    ) -> Computed[Any]:
        self._scheduled.append(scheduling)
        return super().infer(audio, options, scheduling, cancel, emit)


class ModelService:
    """A transcriber or a diarizer. It keeps its port when it is stopped and started again."""

    def __init__(self, engine: Engine, **settings: Any) -> None:
        self.engine = engine
        self.port = free_port()
        self.health_port = 0
        self.metrics_port: int | None = None
        self._settings = settings
        self._server: ServiceServer | None = None
        self.scheduled: list[Scheduling] = []
        """How each request that the engine got was to be scheduled."""

    def _shared(self) -> EngineThread[Any, Any]:
        return RecordingEngineThread(self.engine, self.scheduled)

    async def start(self, redis_url: str) -> None:
        """Returns when it serves."""
        # On a busy machine Redis may take longer than it gets by default, which is no fault that tests look for.
        cache = {"redis_url": redis_url, "cache_timeout_seconds": 5.0}
        common = LOCAL | {"port": self.port} | cache | self._settings
        if isinstance(self.engine, FakeTranscriberEngine):
            transcriber_settings = TranscriberSettings(**common)
            self._server = ServiceServer(transcriber_settings, wire_transcriber(transcriber_settings, self._shared()))
        else:
            diarizer_settings = DiarizerSettings(**common)
            self._server = ServiceServer(diarizer_settings, wire_diarizer(diarizer_settings, self._shared()))
        await self._server.start()
        self.port = self._server.port
        self.health_port, self.metrics_port = self._server.health_port, self._server.metrics_port

    async def stop(self) -> None:
        """Drains and stops."""
        if self._server:
            self.engine.may_go_on.set()
            await self._server.stop()
            self._server = None


@dataclass
class Stack:
    """All three services. ``gateway_settings`` override the gateway's settings."""

    folder: Path
    redis_url: str
    transcriber: ModelService = field(default_factory=lambda: ModelService(FakeTranscriberEngine()))
    diarizer: ModelService = field(default_factory=lambda: ModelService(FakeDiarizerEngine()))
    gateway_settings: dict[str, Any] = field(default_factory=dict)
    jobs: bool = False
    """Whether the gateway takes jobs. They are in the Redis of ``jobs_redis_url``."""
    jobs_redis_url: str = ""
    """Empty for the Redis of the caches."""
    target: str = ""
    metrics: Any = None
    gateway: ServiceServer | None = None

    @property
    def model_services(self) -> tuple[ModelService, ModelService]:
        """The two model services."""
        return self.transcriber, self.diarizer

    @property
    def store(self) -> Path:
        """The gateway's store."""
        return self.folder / "store"

    async def __aenter__(self) -> Self:
        for service in self.model_services:
            await service.start(self.redis_url)
        await self.start_gateway()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_gateway()
        for service in self.model_services:
            await service.stop()

    async def start_gateway(self) -> None:
        """Starts a gateway with the existing store."""
        jobs_redis_url = (self.jobs_redis_url or self.redis_url) if self.jobs else ""
        defaults: dict[str, Any] = LOCAL | {
            "port": 0,
            "store_dir": self.store,
            "jobs_redis_url": jobs_redis_url,
            "jobs_redis_timeout_seconds": HANG_SECONDS,
            "transcriber_target": f"127.0.0.1:{self.transcriber.port}",
            "diarizer_target": f"127.0.0.1:{self.diarizer.port}",
        }
        settings = GatewaySettings(**(defaults | self.gateway_settings))
        wiring = wire_gateway(settings)
        self.metrics = wiring.metrics
        self.gateway = ServiceServer(settings, wiring)
        with patch.object(Decoder, "sandbox_layers", _sandbox_layers):
            await self.gateway.start()
        self.target = f"127.0.0.1:{self.gateway.port}"

    async def stop_gateway(self) -> None:
        """Drains and stops the gateway."""
        if self.gateway:
            await self.gateway.stop()
            self.gateway = None

    @asynccontextmanager
    async def caller(self) -> AsyncIterator[Caller]:
        """A client of the gateway."""
        async with create_channel(self.target) as channel:
            yield Caller(channel)


_find_sandbox_layers = Decoder.sandbox_layers
_known_sandbox_layers: list[str] = []


async def _sandbox_layers(decoder: Decoder) -> Sequence[str]:
    """Starts a process only for the first gateway: the kernel allows all gateways of a test process the same."""
    if not _known_sandbox_layers:
        _known_sandbox_layers.extend(await _find_sandbox_layers(decoder))
    return _known_sandbox_layers


@dataclass
class Answer:
    """The messages of a call, in order."""

    responses: list[Response]

    @property
    def kinds(self) -> list[str]:
        """The kind of each message."""
        return [str(response.WhichOneof("message")) for response in self.responses]

    @property
    def result(self) -> Result:
        """The last message, which must be the only result."""
        assert self.kinds.count("result") == 1
        return codec.decode_result(self.responses[-1].result)

    @property
    def segments(self) -> list[Segment]:
        """The finished segments."""
        return [codec.decode_segment(response.segment) for response in self.responses if response.HasField("segment")]

    def progress(self, stage: Stage) -> list[float]:
        """The progress of one stage."""
        told = [response.progress for response in self.responses if response.HasField("progress")]
        return [progress.fraction for progress in map(codec.decode_progress, told) if progress.stage is stage]


class Caller:
    """A plain gRPC client without Careca's client library."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(channel)
        self.jobs = jobs_pb2_grpc.JobServiceStub(channel)
        self.recordings = recordings_pb2_grpc.RecordingServiceStub(channel)
        self.transcripts = transcripts_pb2_grpc.TranscriptServiceStub(channel)
        self.voices = voices_pb2_grpc.VoiceServiceStub(channel)

    async def transcribe(
        self, data: bytes, *, within: float | None = HANG_SECONDS, metadata: Metadata = (), **config: Any
    ) -> Answer:
        """Runs a whole call for ``data``. Raises ``CarecaError``."""
        return await self.converse([config_for(data, **config)], [data], within=within, metadata=metadata)

    async def begin_upload(self, data: bytes) -> grpc.aio.StreamStreamCall[gateway_pb2.TranscribeRequest, Response]:
        """Starts a call whose next message must be a chunk of ``data``."""
        call = self.stub.Transcribe(timeout=HANG_SECONDS)
        await call.write(config_for(data))
        response = await call.read()
        assert isinstance(response, Response)
        assert response.HasField("recording_needed")
        return call

    async def converse(
        self,
        opening: Sequence[gateway_pb2.TranscribeRequest],
        chunks: Iterable[bytes],
        *,
        within: float | None = HANG_SECONDS,
        metadata: Metadata = (),
        on_response: Callable[[Response], None] = lambda _: None,
    ) -> Answer:
        """Sends ``opening``, then ``chunks`` if the recording is needed. Raises ``CarecaError``."""
        needed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def requests() -> AsyncIterator[gateway_pb2.TranscribeRequest]:
            for message in opening:
                yield message
            if await needed:
                for chunk in chunks:
                    yield gateway_pb2.TranscribeRequest(recording_chunk=chunk)

        responses = []
        call = self.stub.Transcribe(requests(), timeout=within, metadata=tuple(metadata))
        try:
            async for response in responses_of(call):
                if not needed.done():
                    needed.set_result(response.HasField("recording_needed"))
                responses.append(response)
                on_response(response)
        finally:
            call.cancel()
            needed.cancel()
        return Answer(responses)


def config_for(data: bytes, *, digest: Digest | None = None, **config: Any) -> gateway_pb2.TranscribeRequest:
    """Returns the first message of a call for ``data``."""
    recording = codec.encode_digest(digest or digest_of(data))
    return gateway_pb2.TranscribeRequest(config=Config(recording=recording, **config))
