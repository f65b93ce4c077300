"""The client for asyncio, on grpc.aio. Its blocking twin is ``careca_client.blocking.client``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Self, Unpack

from grpc_health.v1 import health_pb2, health_pb2_grpc

from careca.errors import NotFound
from careca.rpc import request_id
from careca.rpc.channel import create_channel
from careca.rpc.statuses import translated_errors
from careca.types import ClearScope, Stage
from careca.v1 import admin_pb2, admin_pb2_grpc, gateway_pb2_grpc, jobs_pb2_grpc
from careca_client import admin
from careca_client.access import NO_ACCESS_NEEDED, Access
from careca_client.admin import ADMIN_TIMEOUT_SECONDS
from careca_client.aio.jobs import AsyncJobCalls
from careca_client.aio.streams import converse, hashed, ignore
from careca_client.blocking.client import DEFAULT_TARGET, HEALTH_TIMEOUT_SECONDS
from careca_client.digests import DigestMemory
from careca_client.events import EventCallback
from careca_client.protocol.transcribe import Attempts, Conversation, TranscribeOptions, build_config
from careca_client.recording import Source
from careca_client.result import TranscriptionResult


class AsyncClient(AsyncJobCalls):
    """Calls one gateway. Belongs to the event loop that it was made in; tasks may share it.

        async with AsyncClient("localhost:50051") as client:
            result = await client.transcribe("meeting.mp4", max_speaker_count=4)

    Same methods and errors as ``careca_client.Client``. Files are read and hashed in threads. Cancelling the task
    cancels the call, and with it the work of the services.
    """

    def __init__(
        self, target: str = DEFAULT_TARGET, *, retries: int = 3, submitter: str = "", access: Access = NO_ACCESS_NEEDED
    ) -> None:
        """Opens nothing yet. The arguments are those of ``careca_client.Client``."""
        self._target = target
        self._metadata = access.metadata(target, submitter)
        self._retries = retries
        self._digests = DigestMemory()
        self._tls = access.files
        self._channel = create_channel(target, self._tls)
        self._gateway = gateway_pb2_grpc.GatewayServiceStub(self._channel)
        self._jobs = jobs_pb2_grpc.JobServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections and cancels calls in flight."""
        await self._channel.close()

    async def transcribe(
        self,
        recording: Source,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 -- it travels to the services with the call
        on_event: EventCallback | None = None,
        **options: Unpack[TranscribeOptions],
    ) -> TranscriptionResult:
        """Who said what, and when. ``TranscribeOptions`` lists the options.

        The recording is hashed first, a file only if it changed since this client last did, and uploaded only if the
        gateway does not have it. ``timeout`` limits all of it, in seconds. ``on_event`` is called, on the event loop,
        with what happens; what it raises ends the call.
        """
        attempts, emit = Attempts(retries=self._retries, timeout=timeout), on_event or ignore
        metadata = (*self._metadata, (request_id.KEY, request_id.new()))  # all attempts are one call's
        config = await asyncio.to_thread(build_config, options)
        async with hashed(recording, options.get("display_name"), self._digests, emit) as source:
            done = await converse(
                self._gateway.Transcribe, lambda: Conversation(config, source), attempts, emit, metadata
            )
            return attempts.conclude(done.finish(), done)

    async def stats(self, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> admin.SystemStats:  # noqa: ASYNC109
        """The live state of the services behind the gateway, and of each of their replicas."""
        request = admin_pb2.StatsRequest()
        with translated_errors():
            return admin.decode_stats(await self._admin.Stats(request, timeout=timeout, metadata=self._metadata))

    async def clear_cache(
        self,
        scope: ClearScope,
        stages: Iterable[Stage] = (),
        *,
        timeout: float = ADMIN_TIMEOUT_SECONDS,  # noqa: ASYNC109
    ) -> tuple[admin.StageClearance, ...]:
        """Clears the result caches of ``stages``, by default of all. ``ALL`` also unloads the models."""
        request = admin.encode_clear_cache(scope, stages)
        with translated_errors():
            return admin.decode_clearances(
                await self._admin.ClearCache(request, timeout=timeout, metadata=self._metadata)
            )

    async def release_memory(
        self,
        stages: Iterable[Stage] = (),
        *,
        timeout: float = ADMIN_TIMEOUT_SECONDS,  # noqa: ASYNC109
    ) -> admin.SystemRelease:
        """Unloads the models of ``stages``, by default of all, and gives their memory and the gateway's back."""
        request = admin.encode_release_memory(stages)
        with translated_errors():
            return admin.decode_release(
                await self._admin.ReleaseMemory(request, timeout=timeout, metadata=self._metadata)
            )

    async def health(
        self,
        service: str = "",
        *,
        timeout: float = HEALTH_TIMEOUT_SECONDS,  # noqa: ASYNC109
    ) -> admin.Health:
        """The health of the gateway, or of one ``service`` by the name under which its server reports it."""
        request = health_pb2.HealthCheckRequest(service=service)
        async with create_channel(self._target, self._tls, respect_health=False) as channel:
            try:
                with translated_errors():
                    response = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
            except NotFound:
                return admin.Health(service, "SERVICE_UNKNOWN")
        return admin.Health(service, health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))
