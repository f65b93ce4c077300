"""The client for asyncio, on grpc.aio. Its blocking twin is ``careca_client.client``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Self, TypeVar, Unpack

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from careca.channel import create_channel
from careca.errors import CarecaError, NotFound
from careca.statuses import responses_of, translated_errors
from careca.types import ClearScope, Stage
from careca.v1 import admin_pb2, admin_pb2_grpc, gateway_pb2, gateway_pb2_grpc
from careca_client import admin
from careca_client.client import ADMIN_TIMEOUT_SECONDS, DEFAULT_TARGET, HEALTH_TIMEOUT_SECONDS
from careca_client.conversation import Attempts, Conversation, TranscribeOptions, build_config
from careca_client.digests import DigestMemory
from careca_client.events import Event, EventCallback, Hashing
from careca_client.recording import Source, open_recording
from careca_client.result import TranscriptionResult

T = TypeVar("T")


class AsyncClient:
    """Calls one gateway. Belongs to the event loop that it was made in; tasks may share it.

        async with AsyncClient("localhost:50051") as client:
            result = await client.transcribe("meeting.mp4", max_speaker_count=4)

    Same methods and errors as ``careca_client.Client``. Files are read and hashed in threads. Cancelling the task
    cancels the call, and with it the work of the services.
    """

    def __init__(self, target: str = DEFAULT_TARGET, *, retries: int = 3) -> None:
        """Opens nothing yet. ``retries``: further attempts of ``transcribe`` where the gateway is unavailable."""
        self._target = target
        self._retries = retries
        self._digests = DigestMemory()
        self._channel = create_channel(target)
        self._gateway = gateway_pb2_grpc.GatewayServiceStub(self._channel)
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
        attempts = Attempts(retries=self._retries, timeout=timeout)
        config = await asyncio.to_thread(build_config, options)
        emit = on_event or _ignore
        with await asyncio.to_thread(open_recording, recording, options.get("display_name")) as source:
            async for done in _in_threads(self._digests.hash(source)):
                emit(Hashing(done, source.total_bytes))
            while True:
                conversation = Conversation(config, source)
                try:
                    message = await self._converse(conversation, attempts.remaining(), emit)
                except CarecaError as error:
                    retrying = attempts.after(error, conversation)
                    emit(retrying)
                    await asyncio.sleep(retrying.delay_seconds)
                else:
                    return attempts.conclude(message, conversation)

    async def _converse(
        self,
        conversation: Conversation,
        timeout: float | None,  # noqa: ASYNC109 -- see transcribe
        emit: EventCallback,
    ) -> gateway_pb2.TranscribeResult:
        upload = _Upload(conversation, emit)
        call = self._gateway.Transcribe(upload.messages(), timeout=timeout)
        try:
            async for response in responses_of(call):
                conversation.receive(response)
                if conversation.answered:
                    upload.decide(call)
                if (event := conversation.event_of(response)) is not None:
                    emit(event)
        except (CarecaError, asyncio.CancelledError):
            if upload.error is None or _being_cancelled():
                raise
        finally:
            upload.stop()
            call.cancel()
        if upload.error is not None:
            raise upload.error
        return conversation.finish()

    async def stats(self, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> admin.SystemStats:  # noqa: ASYNC109
        """The live state of the services behind the gateway."""
        with translated_errors():
            return admin.decode_stats(await self._admin.Stats(admin_pb2.StatsRequest(), timeout=timeout))

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
            return admin.decode_clearances(await self._admin.ClearCache(request, timeout=timeout))

    async def release_memory(
        self,
        stages: Iterable[Stage] = (),
        *,
        timeout: float = ADMIN_TIMEOUT_SECONDS,  # noqa: ASYNC109
    ) -> admin.SystemRelease:
        """Unloads the models of ``stages``, by default of all, and gives their memory and the gateway's back."""
        request = admin.encode_release_memory(stages)
        with translated_errors():
            return admin.decode_release(await self._admin.ReleaseMemory(request, timeout=timeout))

    async def health(
        self,
        service: str = "",
        *,
        timeout: float = HEALTH_TIMEOUT_SECONDS,  # noqa: ASYNC109
    ) -> admin.Health:
        """The health of the gateway, or of one ``service`` by the name under which its server reports it."""
        request = health_pb2.HealthCheckRequest(service=service)
        # A channel that heeds health would refuse to ask a server that is not serving.
        async with grpc.aio.insecure_channel(self._target) as channel:
            try:
                with translated_errors():
                    response = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
            except NotFound:
                return admin.Health(service, "SERVICE_UNKNOWN")
        return admin.Health(service, health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


class _Upload:
    """The caller's half of one stream. grpc draws its messages in a task of its own."""

    def __init__(self, conversation: Conversation, emit: EventCallback) -> None:
        self.error: Exception | None = None
        """Why no more could be sent."""
        self._conversation = conversation
        self._emit = emit
        self._decided = asyncio.Event()
        self._stopped = False
        self._call: grpc.aio.RpcContext | None = None

    async def messages(self) -> AsyncIterator[gateway_pb2.TranscribeRequest]:
        yield self._conversation.opening
        await self._decided.wait()
        if self._stopped or not self._conversation.recording_needed:
            return
        try:
            async for request, event in _in_threads(self._conversation.chunks()):
                yield request
                if self._stopped:
                    return
                self._emit(event)
        except Exception as error:  # noqa: BLE001 -- grpc would hide it: raised where the call is waited for
            self.error = error
            if self._call is not None:
                self._call.cancel()

    def decide(self, call: grpc.aio.RpcContext) -> None:
        """The gateway has said whether it needs the recording."""
        self._call = call
        self._decided.set()

    def stop(self) -> None:
        """Nothing more is to be sent."""
        self._stopped = True
        self._decided.set()


async def _in_threads(steps: Iterator[T]) -> AsyncIterator[T]:
    """Takes each step of a blocking iterator in a thread."""
    while (step := await asyncio.to_thread(next, steps, None)) is not None:
        yield step


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _ignore(_: Event) -> None:
    """What happens does not matter to this caller."""
