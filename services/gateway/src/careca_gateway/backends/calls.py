"""Calls to model services: offering audio by its digest, retrying, and translating errors.

If a replica is full, another one that has room is called at once. If a replica cannot be reached, or fails while it
works, the call is retried for some seconds: a service that restarts is back by then, or another replica answers. The
audio is named by its digest, and segments that were already yielded are not yielded again, so that the caller notices
only the delay.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import grpc.aio

from careca.cancellation import interruptible
from careca.errors import Cancelled, InternalError, InvalidRecording, InvalidRequest, Overloaded, Unavailable
from careca.rpc import request_id
from careca.rpc.statuses import responses_of, translated_errors
from careca.telemetry import tracing
from careca.telemetry.logs import get_logger
from careca_gateway.backends.replicas import Replica, Replicas
from careca_gateway.request import Deadline

CHUNK_BYTES = 1024 * 1024
"""The size of the audio chunks. gRPC is fastest with this size."""

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Pauses before retries."""

WINDOW_SECONDS = 30.0
"""Timeout for a window of live audio. It is read again then: newer audio has arrived."""

_OPTIONS = "config.options"
"""The path of the options in the requests of both model services."""


class AudioResponse(Protocol):
    """A response of a model service."""

    def WhichOneof(self, oneof_group: Any) -> str | None:  # noqa: N802 - protobuf's name
        """Returns the name of the field that is set."""


_log = get_logger(__name__)

Q = TypeVar("Q")
S = TypeVar("S", bound=AudioResponse)
U = TypeVar("U")


class AudioCall(Generic[Q, S]):
    """One call of a model service with audio.

    Args:
        replicas: the replicas of the service.
        method: returns the stub's method for a channel.
        config: the first message.
        chunk: creates the message for a chunk of the audio.
        audio: the file that is sent if the service asks for the audio.
        options_field: the path of the options in the gateway's own request, for error messages.
    """

    def __init__(
        self,
        replicas: Replicas,
        method: Callable[[grpc.aio.Channel], grpc.aio.StreamStreamMultiCallable[Q, S]],
        *,
        config: Q,
        chunk: Callable[[bytes], Q],
        audio: Path,
        options_field: str,
    ) -> None:
        self._replicas = replicas
        self._method = method
        self._config = config
        self._chunk = chunk
        self._audio = audio
        self._options_field = options_field

    async def responses(self, deadline: Deadline) -> AsyncGenerator[S, None]:
        """Yields the service's responses except ``audio_needed``. Closing the generator cancels the call.

        Each attempt starts from the beginning, and segments that were already yielded are skipped. A full replica
        refuses before it does anything, so another one can be called instead.

        Raises ``CarecaError`` as the service did, with the fields named as in the gateway's own request.
        """
        pauses = iter(RETRY_SECONDS)
        refusals: dict[Replica, Overloaded] = {}
        replica = self._replicas.best()
        yielded = 0
        ended = False
        while not ended:
            segments = 0
            try:
                with _translated_fields(self._options_field):
                    async with aclosing(self._attempt(replica, deadline)) as responses:
                        async for response in responses:
                            kind = response.WhichOneof("message")
                            if kind == "segment":
                                segments += 1
                                if segments <= yielded:
                                    continue
                                yielded = segments
                            if kind != "audio_needed":
                                yield response
                ended = True
            except Overloaded as error:
                refusals[replica] = error
                replica = self._next_replica(refusals)
            except Unavailable as error:
                pause = next(pauses, None)
                if pause is None or not deadline.allows(pause):
                    raise
                _log.info("a call is repeated", address=replica.address, reason=error.reason, error=error.message)
                await asyncio.sleep(pause)
                replica = self._replicas.best()

    def _next_replica(self, refusals: Mapping[Replica, Overloaded]) -> Replica:
        """Returns a replica that has room. Raises the refusal with the shortest retry time if there is none."""
        replica = self._replicas.with_room(refusals)
        if replica is None:
            raise min(refusals.values(), key=lambda refusal: refusal.retry_after_seconds or 0.0)
        _log.info("another replica is called", address=replica.address, full=[each.address for each in refusals])
        return replica

    async def _attempt(self, replica: Replica, deadline: Deadline) -> AsyncGenerator[S, None]:
        requests = _Requests(self._config, self._chunk, self._audio)
        metadata = (*request_id.outgoing(), *tracing.outgoing())
        call = self._method(replica)(requests.messages(), timeout=deadline.remaining(), metadata=metadata)
        try:
            with _cancelled_calls_as_errors():
                async for response in responses_of(call):
                    if response.WhichOneof("message") == "audio_needed":
                        requests.send_audio()
                    yield response
        except Unavailable:
            if requests.failure:
                raise InternalError("the stored audio cannot be read") from requests.failure
            raise
        finally:
            call.cancel()
            requests.end()


class _Requests(Generic[Q]):
    """The gateway's side of the stream: the config, and then the audio if the service asks for it."""

    def __init__(self, config: Q, chunk: Callable[[bytes], Q], audio: Path) -> None:
        self._config = config
        self._chunk = chunk
        self._audio = audio
        self._audio_needed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.failure: OSError | None = None
        """The error if the audio could not be read."""

    def send_audio(self) -> None:
        """Starts sending the audio."""
        if not self._audio_needed.done():
            self._audio_needed.set_result(True)

    def end(self) -> None:
        """Ends the stream without the audio, if that is not being sent yet."""
        if not self._audio_needed.done():
            self._audio_needed.set_result(False)

    async def messages(self) -> AsyncIterator[Q]:
        """Yields the messages when gRPC asks for them."""
        yield self._config
        if not await self._audio_needed:
            return
        try:
            with await asyncio.to_thread(self._audio.open, "rb") as file:
                while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    yield self._chunk(data)
        except OSError as error:
            self.failure = error
            raise


@contextmanager
def _cancelled_calls_as_errors() -> Iterator[None]:
    """Raises ``Unavailable`` if gRPC or the service cancelled the call, unless our own task is being cancelled.

    A service that stops may answer CANCELLED. gRPC raises ``CancelledError`` if it cancels a call by itself: when its
    channel is closed, or the messages of the call could not be read. Of our own cancellation, it may tell by either.
    """
    try:
        yield
    except (asyncio.CancelledError, Cancelled) as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise asyncio.CancelledError from error
        raise Unavailable("the model service cancelled the call") from None


@contextmanager
def _translated_fields(options_field: str) -> Iterator[None]:
    """Translates the fields in a model service's errors to those of the gateway's own request."""
    try:
        yield
    except InvalidRequest as error:
        if error.reason == "AUDIO_TOO_LONG":
            raise InvalidRecording(error.message, reason="RECORDING_TOO_LONG", metadata=error.metadata) from error
        if not error.field.startswith(_OPTIONS):
            raise InternalError(f"a model service refused what the gateway sent: {error.message}") from error
        error.field = options_field + error.field.removeprefix(_OPTIONS)
        error.message = error.message.replace(_OPTIONS, options_field)
        raise


async def call_window(
    replicas: Replicas, method: Callable[[grpc.aio.Channel], grpc.aio.UnaryUnaryMultiCallable[Q, U]], request: Q
) -> U:
    """Returns the response for a window of live audio, from the best replica. Raises ``CarecaError``."""
    return await call_unary(method(replicas.best()), request, Deadline.after(WINDOW_SECONDS))


async def call_unary(method: grpc.aio.UnaryUnaryMultiCallable[Q, U], request: Q, deadline: Deadline) -> U:
    """Returns the response of a call without a stream. Raises ``CarecaError``."""
    with _cancelled_calls_as_errors(), translated_errors():
        return await interruptible(method(request, timeout=deadline.remaining(), metadata=request_id.outgoing()))
