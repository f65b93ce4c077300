"""Runs the streams that offer a recording, and repeats them after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

from careca import codec
from careca.errors import CarecaError
from careca.types import Digest
from careca.v1 import jobs_pb2
from careca_client.access import Metadata
from careca_client.aio.concurrency import CALL_FAILURES, Signal, is_task_cancelled, iterate, responses_of, sleep
from careca_client.digests import DigestCache
from careca_client.events import EventCallback, Hashing
from careca_client.protocol.attempts import Attempts
from careca_client.protocol.streams import RecordingStream, protocol_error
from careca_client.recording import Recording, Source, open_recording

Stream = TypeVar("Stream", bound=RecordingStream[Any, Any])


@asynccontextmanager
async def hashed(
    source: Source, name: str | None, digests: DigestCache, emit: EventCallback
) -> AsyncIterator[Recording]:
    """Opens and hashes the recording. Closes it at the end of the ``with`` block."""
    with await asyncio.to_thread(open_recording, source, name) as recording:
        async for done in iterate(digests.hash(recording)):
            emit(Hashing(done, recording.total_bytes))
        yield recording


async def run_stream(
    method: Callable[..., Any],
    create: Callable[[], Stream],
    attempts: Attempts,
    emit: EventCallback,
    metadata: Metadata,
) -> Stream:
    """Returns the stream of the attempt that succeeded. ``create`` makes a new one for each attempt."""
    while True:
        stream = create()
        try:
            await _run_once(method, stream, attempts.remaining(), emit, metadata)
        except CarecaError as error:
            await wait_for_retry(attempts, error, emit, stream)
        else:
            return stream


async def is_stored(method: Callable[..., Any], digest: Digest, timeout: float | None, metadata: Metadata) -> bool:
    """Offers a recording to ``method``, and returns whether the gateway has it. Sends no bytes."""
    answered = Signal()

    async def requests() -> AsyncIterator[jobs_pb2.UploadRecordingRequest]:
        config = jobs_pb2.UploadRecordingRequest.Config(recording=codec.encode_digest(digest))
        yield jobs_pb2.UploadRecordingRequest(config=config)
        await answered.wait()

    call = method(requests(), timeout=timeout, metadata=metadata)
    try:
        async with aclosing(responses_of(call)) as responses:
            async for response in responses:
                return bool(response.HasField("recording_known"))
        raise protocol_error("the end of the stream without saying whether it needs the recording")
    finally:
        call.cancel()  # before the requests end, which would be an upload without its bytes
        answered.set()


async def wait_for_retry(
    attempts: Attempts, error: CarecaError, emit: EventCallback, stream: RecordingStream[Any, Any] | None = None
) -> None:
    """Waits until the next attempt may begin. Raises ``error`` if another attempt cannot help."""
    retrying = attempts.after(error, stream)
    emit(retrying)
    await sleep(retrying.delay_seconds)


async def _run_once(
    method: Callable[..., Any],
    stream: RecordingStream[Any, Any],
    timeout: float | None,
    emit: EventCallback,
    metadata: Metadata,
) -> None:
    sender = _Sender(stream, emit)
    call = method(sender.requests(), timeout=timeout, metadata=metadata)
    try:
        async for response in responses_of(call):
            stream.receive(response)
            if stream.answered:
                sender.start(call.cancel)
            if (event := stream.event_of(response)) is not None:
                emit(event)
    except CALL_FAILURES:
        if sender.error is None or is_task_cancelled():
            raise
    finally:
        sender.stop()
        call.cancel()
    if sender.error is not None:
        raise sender.error


class _Sender:
    """The sending half of one stream. gRPC reads its requests in a task of its own."""

    def __init__(self, stream: RecordingStream[Any, Any], emit: EventCallback) -> None:
        self.error: Exception | None = None
        """Why sending failed."""
        self._stream = stream
        self._emit = emit
        self._answered = Signal()
        self._stopped = False
        self._cancel: Callable[[], object] | None = None

    async def requests(self) -> AsyncIterator[Any]:
        yield self._stream.first_request
        await self._answered.wait()
        if self._stopped or not self._stream.recording_needed:
            return
        try:
            async for request, event in iterate(self._stream.chunks()):
                yield request
                if self._stopped:
                    return
                self._emit(event)
        except Exception as error:  # noqa: BLE001 -- gRPC would hide it: the receiving half raises it
            self.error = error
            if self._cancel is not None:
                self._cancel()

    def start(self, cancel: Callable[[], object]) -> None:
        """Sends the recording if the gateway needs it. ``cancel`` ends the call if sending fails."""
        self._cancel = cancel
        self._answered.set()

    def stop(self) -> None:
        """Sends nothing more."""
        self._stopped = True
        self._answered.set()
