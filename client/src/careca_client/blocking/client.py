"""The blocking client, on grpc's blocking stubs. Its twin for asyncio is ``careca_client.aio.client``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self, Unpack

from grpc_health.v1 import health_pb2, health_pb2_grpc

from careca.errors import NotFound
from careca.rpc import request_id
from careca.rpc.channel import create_sync_channel
from careca.rpc.statuses import translated_errors
from careca.types import ClearScope, Stage
from careca.v1 import admin_pb2, admin_pb2_grpc, gateway_pb2_grpc, jobs_pb2_grpc
from careca_client import admin
from careca_client.access import NO_ACCESS_NEEDED, Access
from careca_client.admin import ADMIN_TIMEOUT_SECONDS
from careca_client.blocking.jobs import JobCalls
from careca_client.blocking.streams import converse, hashed, one_at_a_time
from careca_client.digests import DigestMemory
from careca_client.events import EventCallback
from careca_client.protocol.transcribe import Attempts, Conversation, TranscribeOptions, build_config
from careca_client.recording import Source
from careca_client.result import TranscriptionResult

DEFAULT_TARGET = "localhost:50051"
"""Where a gateway listens by default."""

HEALTH_TIMEOUT_SECONDS = 5.0
"""Limit of a health check."""


class Client(JobCalls):
    """Calls one gateway. Threads may share it.

        with Client("localhost:50051") as client:
            result = client.transcribe("meeting.mp4", max_speaker_count=4)
            for utterance in result.utterances:
                print(utterance.start, utterance.speaker, utterance.text)

    All methods raise ``careca.errors.CarecaError``: ``Unavailable`` where the gateway cannot be reached,
    ``InvalidRequest`` and ``InvalidRecording`` where asking again is useless, ``Overloaded`` and ``DeadlineExceeded``
    where it may help.
    """

    def __init__(
        self, target: str = DEFAULT_TARGET, *, retries: int = 3, submitter: str = "", access: Access = NO_ACCESS_NEEDED
    ) -> None:
        """Opens nothing yet.

        ``retries``: further attempts of ``transcribe``, ``upload``, ``submit`` and ``watch`` where the gateway is
        unavailable. ``submitter``: whose calls and jobs these are, from 1 to 64 letters, digits and any of . _ - @;
        empty for nobody in particular, and for whom the token says it is. ``access``: TLS and a token, where the
        gateway wants them. Raises ``InvalidRequest`` where one of them is not as it must be, ``PreconditionFailed``
        (TLS_FILES) where a file of certificates cannot be used.
        """
        self._target = target
        self._metadata = access.metadata(target, submitter)
        self._retries = retries
        self._digests = DigestMemory()
        self._tls = access.files
        self._channel = create_sync_channel(target, self._tls)
        self._gateway = gateway_pb2_grpc.GatewayServiceStub(self._channel)
        self._jobs = jobs_pb2_grpc.JobServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections and cancels calls in flight."""
        self._channel.close()

    def transcribe(
        self,
        recording: Source,
        *,
        timeout: float | None = None,
        on_event: EventCallback | None = None,
        **options: Unpack[TranscribeOptions],
    ) -> TranscriptionResult:
        """Who said what, and when. ``TranscribeOptions`` lists the options.

        The recording is hashed first, a file only if it changed since this client last did, and uploaded only if the
        gateway does not have it. ``timeout`` limits all of it, in seconds. ``on_event`` is called with what happens,
        partly from another thread, never concurrently; what it raises ends the call.
        """
        attempts, emit = Attempts(retries=self._retries, timeout=timeout), one_at_a_time(on_event)
        metadata = (*self._metadata, (request_id.KEY, request_id.new()))  # all attempts are one call's
        config = build_config(options)
        with hashed(recording, options.get("display_name"), self._digests, emit) as source:
            done = converse(self._gateway.Transcribe, lambda: Conversation(config, source), attempts, emit, metadata)
            return attempts.conclude(done.finish(), done)

    def stats(self, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> admin.SystemStats:
        """The live state of the services behind the gateway, and of each of their replicas."""
        request = admin_pb2.StatsRequest()
        with translated_errors():
            return admin.decode_stats(self._admin.Stats(request, timeout=timeout, metadata=self._metadata))

    def clear_cache(
        self, scope: ClearScope, stages: Iterable[Stage] = (), *, timeout: float = ADMIN_TIMEOUT_SECONDS
    ) -> tuple[admin.StageClearance, ...]:
        """Clears the result caches of ``stages``, by default of all. ``ALL`` also unloads the models."""
        request = admin.encode_clear_cache(scope, stages)
        with translated_errors():
            return admin.decode_clearances(self._admin.ClearCache(request, timeout=timeout, metadata=self._metadata))

    def release_memory(
        self, stages: Iterable[Stage] = (), *, timeout: float = ADMIN_TIMEOUT_SECONDS
    ) -> admin.SystemRelease:
        """Unloads the models of ``stages``, by default of all, and gives their memory and the gateway's back."""
        request = admin.encode_release_memory(stages)
        with translated_errors():
            return admin.decode_release(self._admin.ReleaseMemory(request, timeout=timeout, metadata=self._metadata))

    def health(self, service: str = "", *, timeout: float = HEALTH_TIMEOUT_SECONDS) -> admin.Health:
        """The health of the gateway, or of one ``service`` by the name under which its server reports it."""
        request = health_pb2.HealthCheckRequest(service=service)
        with create_sync_channel(self._target, self._tls, respect_health=False) as channel:
            try:
                with translated_errors():
                    response = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
            except NotFound:
                return admin.Health(service, "SERVICE_UNKNOWN")
        return admin.Health(service, health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))
