"""The client."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Self, Unpack

from grpc_health.v1 import health_pb2, health_pb2_grpc

from careca.errors import NotFound
from careca.rpc import request_id
from careca.rpc.channel import create_channel
from careca.rpc.statuses import translated_errors
from careca.types import ClearScope, Stage
from careca.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    gateway_pb2,
    gateway_pb2_grpc,
    jobs_pb2_grpc,
    live_pb2_grpc,
    recordings_pb2_grpc,
    transcripts_pb2_grpc,
    voices_pb2_grpc,
)
from careca_client import admin
from careca_client.access import DEFAULT_TARGET, NO_ACCESS_NEEDED, Access, Metadata
from careca_client.admin import ADMIN_TIMEOUT_SECONDS, HEALTH_TIMEOUT_SECONDS
from careca_client.aio.concurrency import serialize
from careca_client.aio.jobs import AsyncJobCalls
from careca_client.aio.live import AsyncLiveCalls
from careca_client.aio.recordings import AsyncRecordingCalls
from careca_client.aio.streams import hashed, run_stream
from careca_client.aio.transcripts import AsyncTranscriptCalls
from careca_client.aio.voices import AsyncVoiceCalls
from careca_client.digests import DigestCache
from careca_client.events import EventCallback
from careca_client.protocol.attempts import Attempts
from careca_client.protocol.options import TranscribeOptions, build_config
from careca_client.protocol.streams import TranscribeStream
from careca_client.recording import Source
from careca_client.result import TranscriptionResult


class AsyncClient(AsyncJobCalls, AsyncLiveCalls, AsyncRecordingCalls, AsyncTranscriptCalls, AsyncVoiceCalls):
    """Calls one gateway. Use it in the event loop that created it. Tasks may share it.

        async with AsyncClient("localhost:50051") as client:
            result = await client.transcribe("meeting.mp4", max_speaker_count=4)
            for utterance in result.utterances:
                print(utterance.start, utterance.speaker, utterance.text)

    Has the same methods as ``careca_client.Client``. Files are read and hashed in threads. If the task is cancelled,
    the call is cancelled too, and the services stop their work.

    All methods raise ``careca.errors.CarecaError``: ``Unavailable`` if the gateway cannot be reached,
    ``InvalidRequest`` and ``InvalidRecording`` if another attempt cannot help, ``Overloaded`` and ``DeadlineExceeded``
    if another attempt may help.
    """

    def __init__(
        self, target: str = DEFAULT_TARGET, *, retries: int = 3, submitter: str = "", access: Access = NO_ACCESS_NEEDED
    ) -> None:
        """Opens no connection yet.

        Args:
            target: Address of the gateway: host and port.
            retries: How often ``transcribe``, ``upload``, ``submit``, ``watch`` and ``live`` are repeated if the
                gateway is unavailable, and calls that only read if they do not reach it.
            submitter: Name of the owner of the calls and jobs: 1 to 64 letters, digits and any of . _ - @. Leave it
                empty for no owner, or if the token names the owner.
            access: TLS and a token, if the gateway needs them.

        Raises ``InvalidRequest`` if an argument is invalid, ``PreconditionFailed`` (TLS_FILES) if a certificate file
        cannot be used.
        """
        self._target = target
        self._access = access
        self._metadata = access.metadata(target, submitter)
        self._retries = retries
        self._digests = DigestCache()
        self._tls = access.files
        self._channel = create_channel(target, self._tls)
        self._gateway = gateway_pb2_grpc.GatewayServiceStub(self._channel)
        self._jobs = jobs_pb2_grpc.JobServiceStub(self._channel)
        self._live = live_pb2_grpc.LiveServiceStub(self._channel)
        self._recordings = recordings_pb2_grpc.RecordingServiceStub(self._channel)
        self._transcripts = transcripts_pb2_grpc.TranscriptServiceStub(self._channel)
        self._voices = voices_pb2_grpc.VoiceServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def as_caller(self, *, token: str = "", submitter: str = "", metadata: Metadata = ()) -> Self:
        """Returns a client for another caller, which uses the same connections. Only this client closes them.

        Args:
            token: Secret of the caller, instead of the token in ``access``.
            submitter: Name of the owner of the calls and jobs.
            metadata: More metadata for each call, such as the request id.

        Raises ``InvalidRequest`` as the constructor does.
        """
        client = copy.copy(self)
        client._metadata = (*replace(self._access, token=token).metadata(self._target, submitter), *metadata)
        return client

    async def close(self) -> None:
        """Closes the connections and cancels calls in flight."""
        await self._channel.close()

    async def transcribe(
        self,
        recording: Source,
        *,
        timeout: float | None = None,
        on_event: EventCallback | None = None,
        **options: Unpack[TranscribeOptions],
    ) -> TranscriptionResult:
        """Returns who said what, and when. ``TranscribeOptions`` lists the options.

        The recording is hashed first. A file is hashed again only if it has changed. The recording is uploaded only if
        the gateway does not have it.

        Args:
            recording: A path, a binary file object, or the bytes.
            timeout: Limit for the whole call in seconds, including all attempts.
            on_event: Called with each event, on the event loop. An exception that it raises ends the call.
            options: See ``TranscribeOptions``.
        """
        attempts, emit = Attempts(retries=self._retries, timeout=timeout), serialize(on_event)
        metadata = request_id.with_id(self._metadata)  # the same for all attempts
        config = await asyncio.to_thread(build_config, options)
        async with hashed(recording, options.get("display_name"), self._digests, emit) as source:
            stream = await run_stream(
                self._gateway.Transcribe, lambda: TranscribeStream(config, source), attempts, emit, metadata
            )
            return attempts.conclude(stream.finish(), stream)

    async def info(self, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> admin.GatewayInfo:
        """Returns what the gateway serves, and as whom it knows the caller."""
        response = await self._query(self._gateway.GetGatewayInfo, gateway_pb2.GetGatewayInfoRequest(), timeout)
        return admin.decode_info(response)

    async def stats(self, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> admin.SystemStats:
        """Returns the state of the services behind the gateway, and of each of their replicas."""
        response = await self._query(self._admin.Stats, admin_pb2.StatsRequest(), timeout)
        return admin.decode_stats(response)

    async def clear_cache(
        self, scope: ClearScope, stages: Iterable[Stage] = (), *, timeout: float = ADMIN_TIMEOUT_SECONDS
    ) -> tuple[admin.StageClearance, ...]:
        """Clears the result caches of ``stages``, by default of all stages. ``ALL`` also unloads the models."""
        response = await self._call(self._admin.ClearCache, admin.encode_clear_cache(scope, stages), timeout)
        return admin.decode_clearances(response)

    async def release_memory(
        self, stages: Iterable[Stage] = (), *, timeout: float = ADMIN_TIMEOUT_SECONDS
    ) -> admin.SystemRelease:
        """Unloads the models of ``stages``, by default of all stages, and releases memory there and in the gateway."""
        response = await self._call(self._admin.ReleaseMemory, admin.encode_release_memory(stages), timeout)
        return admin.decode_release(response)

    async def health(self, service: str = "", *, timeout: float = HEALTH_TIMEOUT_SECONDS) -> admin.Health:
        """Returns the health of the gateway, or of the ``service`` that its server reports under this name."""
        request = health_pb2.HealthCheckRequest(service=service)
        async with create_channel(self._target, self._tls, respect_health=False) as channel:
            try:
                with translated_errors():
                    response = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
            except NotFound:
                return admin.Health(service, "SERVICE_UNKNOWN")
        return admin.Health(service, health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))
