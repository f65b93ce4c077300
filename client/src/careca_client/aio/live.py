"""The client's live sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Unpack

from careca.errors import Cancelled, CarecaError, InternalError
from careca.rpc import request_id
from careca.v1 import live_pb2, live_pb2_grpc
from careca_client.access import Metadata
from careca_client.aio.calls import AsyncCalls
from careca_client.aio.concurrency import CALL_FAILURES, Condition, is_task_cancelled, responses_of, sleep
from careca_client.live import LiveEvent
from careca_client.protocol.live import LiveOptions, LiveStream, build_live_config, split


class AsyncLiveSession:
    """One live session: takes audio, and yields events when it is iterated.

    Send in one task and iterate in another: audio is sent, and broken connections are replaced, only while somebody
    iterates. Only one may iterate. A loop that was left can be followed by another one, which continues there.
    """

    def __init__(self, service: live_pb2_grpc.LiveServiceAsyncStub, stream: LiveStream, metadata: Metadata) -> None:
        self._service = service
        self._stream = stream
        self._metadata = metadata
        self._changed = Condition()
        self._call: Any = None
        self._first: list[LiveEvent] = []
        self._received = self._attempts()
        self._events = self._all_events()

    @property
    def id(self) -> str:
        """The id of the session."""
        return self._stream.session_id

    async def send(self, audio: bytes | bytearray | memoryview) -> None:
        """Sends the next bytes of the audio. Waits if a lot of audio has not left yet.

        The bytes are kept until the gateway has them, and sent again if the connection breaks. Samples may be divided
        between calls.

        Raises ``PreconditionFailed`` (``SESSION_ENDED``) after ``end``, or if the gateway has ended the session. Raises
        the error of the session if it has failed, and ``Cancelled`` if its context was left.
        """
        for part in split(audio):
            async with self._changed:
                await self._changed.wait_for(lambda: self._stream.has_room)
                self._stream.put(part)
                self._changed.notify_all()

    async def flush(self) -> None:
        """Asks for all words that were said so far as final ones. Raises as ``send`` does."""
        async with self._changed:
            self._stream.flush()
            self._changed.notify_all()

    async def end(self) -> None:
        """Says that the audio ends here. The result follows as the last event, unless there was no audio.

        Calling it again changes nothing.
        """
        async with self._changed:
            self._stream.end()
            self._changed.notify_all()

    def __aiter__(self) -> AsyncIterator[LiveEvent]:
        return self._events

    async def begin(self) -> None:
        """Waits until the gateway has answered. ``live`` does this before it yields the session."""
        while not self.id:
            self._first.append(await anext(self._received))

    async def close(self) -> None:
        """Cancels the call. ``live`` does this at the end of its context."""
        async with self._changed:
            self._stream.close(Cancelled("the context of the live session was left"))
            self._changed.notify_all()
        if self._call is not None:
            self._call.cancel()
        for events in (self._events, self._received):
            with suppress(RuntimeError, ValueError):  # somebody else iterates, and ends with the call
                await events.aclose()

    async def _all_events(self) -> AsyncGenerator[LiveEvent, None]:
        while self._first:
            yield self._first.pop(0)
        async for event in self._received:
            yield event

    async def _attempts(self) -> AsyncGenerator[LiveEvent, None]:
        """Yields the events of all connections."""
        while True:
            try:
                async with aclosing(self._connection()) as events:
                    async for event in events:
                        yield event
            except CarecaError as error:
                async with self._changed:
                    self._changed.notify_all()
                    if self._stream.is_complete and not isinstance(error, InternalError):
                        return  # the gateway was gone after its last message
                    reconnecting = self._stream.after(error)
                yield reconnecting
                await sleep(reconnecting.delay_seconds)
            else:
                return

    async def _connection(self) -> AsyncGenerator[LiveEvent, None]:
        """Yields the events of one connection."""
        async with self._changed:
            connection = self._stream.connect()
        self._call = self._service.Transcribe(self._requests(connection), metadata=self._metadata)
        try:
            async with aclosing(responses_of(self._call)) as responses:
                async for response in responses:
                    async with self._changed:
                        event = self._stream.receive(response)
                        self._changed.notify_all()
                    if event is not None:
                        yield event
            self._stream.finish()
        except CALL_FAILURES:
            if self._stream.failure is None or is_task_cancelled():
                raise
            raise self._stream.failure from None
        finally:
            self._call.cancel()  # before the requests end, which would end the caller's half in order
            async with self._changed:
                self._stream.disconnect()
                self._changed.notify_all()

    async def _requests(self, connection: int) -> AsyncIterator[live_pb2.LiveServiceTranscribeRequest]:
        """Yields what is sent on one connection. gRPC reads it in a task of its own."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._stream.is_ready(connection))
                request = self._stream.next_request(connection)
                self._changed.notify_all()
            if request is None:
                return
            yield request


class AsyncLiveCalls(AsyncCalls):
    """Live transcripts: words with speakers while people talk."""

    _live: live_pb2_grpc.LiveServiceAsyncStub

    @asynccontextmanager
    async def live(self, **options: Unpack[LiveOptions]) -> AsyncIterator[AsyncLiveSession]:
        """Begins a live session. ``LiveOptions`` lists the options.

        Send audio as it is spoken, and ``end`` at last. The session continues by itself after a broken connection. Once
        it has begun, it waits up to a minute for a gateway that went away, unless the client was created with no
        retries.

        The end of the ``with`` block cancels the call. Without ``end`` before it, the session is left to the gateway,
        which ends it after some time, as if ``end`` had been called; its job can be read later.

        Raises ``PreconditionFailed`` (``JOBS_OFF``) if the gateway takes no jobs, ``Overloaded``
        (``TOO_MANY_SESSIONS``, ``STORE_FULL``) if it cannot take another session now.
        """
        config = await asyncio.to_thread(build_live_config, options)
        stream = LiveStream(config, retries=self._retries)
        session = AsyncLiveSession(self._live, stream, request_id.with_id(self._metadata))
        try:
            await session.begin()
            yield session
        finally:
            await session.close()
