"""How the gateway calls model services: offers audio by its digest, tries again, tells its own errors from a caller's.

What a full replica refuses is offered at once to others that have room. A service that cannot be reached, or that goes
away while it works, is asked again for some seconds: one that restarts is back by then, and others may be there
already. Audio is named by its digest and what has been told is not told again, so that nobody notices but by the time
it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import grpc.aio
from google.protobuf.descriptor import Descriptor

from careca.errors import InternalError, InvalidRecording, InvalidRequest, Overloaded, Unavailable
from careca.rpc import request_id
from careca.rpc.statuses import responses_of, translated_errors
from careca.telemetry import tracing
from careca.telemetry.logs import get_logger
from careca_gateway.backends.replicas import Replica, Replicas
from careca_gateway.request import Deadline

CHUNK_BYTES = 1024 * 1024
"""Audio is sent in chunks of this size, with which gRPC is fastest."""

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0)
"""Pauses between attempts to reach a service."""

_OPTIONS = "config.options"
"""The path of what a caller may ask in the requests of both model services."""


class AudioResponse(Protocol):
    """A message of a model service's half of the stream."""

    @property
    def DESCRIPTOR(self) -> Descriptor:  # noqa: N802 - protobuf's name
        """The fields that such messages have."""

    def HasField(self, field_name: Any) -> bool:  # noqa: N802 - protobuf's name
        """Whether the field of that name is set."""


_log = get_logger(__name__)

Q = TypeVar("Q")
S = TypeVar("S", bound=AudioResponse)


class AudioCall(Generic[Q, S]):
    """One question about audio to a model service.

    Args:
        replicas: whom to ask.
        method: the stub's method, of a stub on a channel.
        config: the first message.
        chunk: makes the message that carries some of the audio.
        audio: the file that is sent if the service asks for it.
        options_field: the path of the options in the gateway's own request, for errors.
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
        """What the service answers, its asking for the audio apart. Closing it cancels the call.

        Segments that were told before a service went away are not told again; whoever works on it then begins anew.
        A replica that is full refuses before it does anything, so that another one may be asked in its place.

        Raises ``CarecaError`` as the service did; what it refuses is named as the gateway's callers know it.
        """
        pauses = iter(RETRY_SECONDS)
        refusals: dict[Replica, Overloaded] = {}
        replica = self._replicas.best()
        told = 0
        ended = False
        while not ended:
            segments = 0
            try:
                with _own_terms(self._options_field):
                    async with aclosing(self._attempt(replica, deadline)) as responses:
                        async for response in responses:
                            if _is_segment(response):
                                segments += 1
                                if segments <= told:
                                    continue
                                told = segments
                            if not response.HasField("audio_needed"):
                                yield response
                ended = True
            except Overloaded as error:
                refusals[replica] = error
                replica = self._elsewhere(refusals)
            except Unavailable as error:
                pause = next(pauses, None)
                if pause is None or not deadline.allows(pause):
                    raise
                _log.info("a service is asked again", address=replica.address, reason=error.reason, error=error.message)
                await asyncio.sleep(pause)
                replica = self._replicas.best()

    def _elsewhere(self, refusals: Mapping[Replica, Overloaded]) -> Replica:
        """Who has room where others refused; where nobody has, raises what the one said who has room the soonest."""
        replica = self._replicas.with_room(refusals)
        if replica is None:
            raise min(refusals.values(), key=lambda refusal: refusal.retry_after_seconds or 0.0)
        _log.info("another replica is asked", address=replica.address, full=[each.address for each in refusals])
        return replica

    async def _attempt(self, replica: Replica, deadline: Deadline) -> AsyncGenerator[S, None]:
        """Everything that one call of a replica answers."""
        sending = _Sending(self._config, self._chunk, self._audio)
        metadata = (*request_id.outgoing(), *tracing.outgoing())
        call = self._method(replica)(sending.messages(), timeout=deadline.remaining(), metadata=metadata)
        try:
            with _not_cancelled_by_us(sending):
                async for response in responses_of(call):
                    if response.HasField("audio_needed"):
                        sending.begin()
                    yield response
        finally:
            call.cancel()
            sending.end()


def _is_segment(response: AudioResponse) -> bool:
    return "segment" in response.DESCRIPTOR.fields_by_name and response.HasField("segment")


class _Sending(Generic[Q]):
    """The gateway's half of the stream: the config, then the audio once it is asked for."""

    def __init__(self, config: Q, chunk: Callable[[bytes], Q], audio: Path) -> None:
        self._config = config
        self._chunk = chunk
        self._audio = audio
        self._needed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.failure: OSError | None = None
        """Why the audio could not be read."""

    def begin(self) -> None:
        """Has the audio sent."""
        if not self._needed.done():
            self._needed.set_result(True)

    def end(self) -> None:
        """Has nothing sent that was not sent yet."""
        if not self._needed.done():
            self._needed.set_result(False)

    async def messages(self) -> AsyncIterator[Q]:
        """The messages, as gRPC asks for them."""
        yield self._config
        if not await self._needed:
            return
        try:
            with await asyncio.to_thread(self._audio.open, "rb") as file:
                while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    yield self._chunk(data)
        except OSError as error:
            self.failure = error
            raise


@contextmanager
def _not_cancelled_by_us(sending: _Sending[Any]) -> Iterator[None]:
    """Tells a call that gRPC or the service cancelled from a task of ours that is being cancelled.

    gRPC raises ``CancelledError`` for both, and also where the audio could not be read.
    """
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        if sending.failure:
            raise InternalError("the stored audio cannot be read") from sending.failure
        raise Unavailable("the model service cancelled the call") from None


@contextmanager
def _own_terms(options_field: str) -> Iterator[None]:
    """Names what a model service refuses as the gateway's callers know it."""
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


async def ask(method: grpc.aio.UnaryUnaryMultiCallable[Q, S], request: Q, deadline: Deadline) -> S:
    """The answer to one request that takes no audio. Raises ``CarecaError``."""
    with translated_errors():
        return await method(request, timeout=deadline.remaining(), metadata=request_id.outgoing())
