"""The blocking client, on grpc's blocking stubs. Its twin for asyncio is ``careca_client.aio``."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Self, Unpack

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from careca.channel import create_sync_channel
from careca.errors import CarecaError, NotFound
from careca.statuses import translated_errors
from careca.types import ClearScope, Stage
from careca.v1 import admin_pb2, admin_pb2_grpc, gateway_pb2, gateway_pb2_grpc
from careca_client import admin
from careca_client.conversation import Attempts, Conversation, TranscribeOptions, build_config
from careca_client.digests import DigestMemory
from careca_client.events import Event, EventCallback, Hashing
from careca_client.recording import Source, open_recording
from careca_client.result import TranscriptionResult

DEFAULT_TARGET = "localhost:50051"
"""Where a gateway listens by default."""

ADMIN_TIMEOUT_SECONDS = 60.0
"""Limit of the calls that compute nothing."""

HEALTH_TIMEOUT_SECONDS = 5.0
"""Limit of a health check."""


class Client:
    """Calls one gateway. Threads may share it.

        with Client("localhost:50051") as client:
            result = client.transcribe("meeting.mp4", max_speaker_count=4)
            for utterance in result.utterances:
                print(utterance.start, utterance.speaker, utterance.text)

    All methods raise ``careca.errors.CarecaError``: ``Unavailable`` where the gateway cannot be reached,
    ``InvalidRequest`` and ``InvalidRecording`` where asking again is useless, ``Overloaded`` and ``DeadlineExceeded``
    where it may help.
    """

    def __init__(self, target: str = DEFAULT_TARGET, *, retries: int = 3) -> None:
        """Opens nothing yet. ``retries``: further attempts of ``transcribe`` where the gateway is unavailable."""
        self._target = target
        self._retries = retries
        self._digests = DigestMemory()
        self._channel = create_sync_channel(target)
        self._gateway = gateway_pb2_grpc.GatewayServiceStub(self._channel)
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
        attempts = Attempts(retries=self._retries, timeout=timeout)
        config = build_config(options)
        emit = _one_at_a_time(on_event)
        with open_recording(recording, options.get("display_name")) as source:
            for done in self._digests.hash(source):
                emit(Hashing(done, source.total_bytes))
            while True:
                conversation = Conversation(config, source)
                try:
                    message = self._converse(conversation, attempts.remaining(), emit)
                except CarecaError as error:
                    retrying = attempts.after(error, conversation)
                    emit(retrying)
                    time.sleep(retrying.delay_seconds)
                else:
                    return attempts.conclude(message, conversation)

    def _converse(
        self, conversation: Conversation, timeout: float | None, emit: EventCallback
    ) -> gateway_pb2.TranscribeResult:
        upload = _Upload(conversation, emit)
        call = self._gateway.Transcribe(iter(upload), timeout=timeout)
        try:
            with translated_errors():
                for response in call:
                    conversation.receive(response)
                    if conversation.answered:
                        upload.decide(call)
                    if (event := conversation.event_of(response)) is not None:
                        emit(event)
        except CarecaError:
            if upload.error is None:
                raise
        finally:
            upload.stop()
            call.cancel()
        if upload.error is not None:
            raise upload.error
        return conversation.finish()

    def stats(self, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> admin.SystemStats:
        """The live state of the services behind the gateway."""
        with translated_errors():
            return admin.decode_stats(self._admin.Stats(admin_pb2.StatsRequest(), timeout=timeout))

    def clear_cache(
        self, scope: ClearScope, stages: Iterable[Stage] = (), *, timeout: float = ADMIN_TIMEOUT_SECONDS
    ) -> tuple[admin.StageClearance, ...]:
        """Clears the result caches of ``stages``, by default of all. ``ALL`` also unloads the models."""
        request = admin.encode_clear_cache(scope, stages)
        with translated_errors():
            return admin.decode_clearances(self._admin.ClearCache(request, timeout=timeout))

    def release_memory(
        self, stages: Iterable[Stage] = (), *, timeout: float = ADMIN_TIMEOUT_SECONDS
    ) -> admin.SystemRelease:
        """Unloads the models of ``stages``, by default of all, and gives their memory and the gateway's back."""
        request = admin.encode_release_memory(stages)
        with translated_errors():
            return admin.decode_release(self._admin.ReleaseMemory(request, timeout=timeout))

    def health(self, service: str = "", *, timeout: float = HEALTH_TIMEOUT_SECONDS) -> admin.Health:
        """The health of the gateway, or of one ``service`` by the name under which its server reports it."""
        request = health_pb2.HealthCheckRequest(service=service)
        # A channel that heeds health would refuse to ask a server that is not serving.
        with grpc.insecure_channel(self._target) as channel:
            try:
                with translated_errors():
                    response = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
            except NotFound:
                return admin.Health(service, "SERVICE_UNKNOWN")
        return admin.Health(service, health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


class _Upload:
    """The caller's half of one stream. grpc draws its messages in a thread of its own."""

    def __init__(self, conversation: Conversation, emit: EventCallback) -> None:
        self.error: Exception | None = None
        """Why no more could be sent."""
        self._conversation = conversation
        self._emit = emit
        self._decided = threading.Event()
        self._stopped = False
        self._call: grpc.RpcContext | None = None

    def __iter__(self) -> Iterator[gateway_pb2.TranscribeRequest]:
        yield self._conversation.opening
        self._decided.wait()
        if self._stopped or not self._conversation.recording_needed:
            return
        try:
            for request, event in self._conversation.chunks():
                yield request
                if self._stopped:
                    return
                self._emit(event)
        except Exception as error:  # noqa: BLE001 -- grpc would log and hide it: raised where the call is waited for
            self.error = error
            if self._call is not None:
                self._call.cancel()

    def decide(self, call: grpc.RpcContext) -> None:
        """The gateway has said whether it needs the recording."""
        self._call = call
        self._decided.set()

    def stop(self) -> None:
        """Nothing more is to be sent."""
        self._stopped = True
        self._decided.set()


def _one_at_a_time(callback: EventCallback | None) -> EventCallback:
    """Events come from the caller's thread and, during the upload, from grpc's."""
    lock = threading.Lock()

    def emit(event: Event) -> None:
        if callback is not None:
            with lock:
                callback(event)

    return emit
