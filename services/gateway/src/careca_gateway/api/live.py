"""The gRPC service for live transcripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio

from careca.errors import InvalidRequest, Unavailable
from careca.rpc.upload_stream import MAX_CHUNK_BYTES
from careca.v1 import live_pb2, live_pb2_grpc
from careca_gateway.api.jobs import require_jobs
from careca_gateway.api.submitter import submitter_of
from careca_gateway.live.service import LiveService
from careca_gateway.live.session import LiveSession

Context = grpc.aio.ServicerContext[Any, Any]
Request = live_pb2.LiveServiceTranscribeRequest
Response = live_pb2.LiveServiceTranscribeResponse


class LiveServicer(live_pb2_grpc.LiveServiceServicer):
    """Takes live audio and answers with words: see live.proto.

    Args:
        live: the sessions; ``None`` if this gateway takes no jobs.
    """

    def __init__(self, live: LiveService | None) -> None:
        self._live_service = live

    async def Transcribe(self, request_iterator: AsyncIterator[Request], context: Context) -> AsyncIterator[Response]:
        """Serves one call of a session."""
        live = require_jobs(self._live_service)
        submitter = submitter_of(context.invocation_metadata())
        first = await anext(request_iterator, None)
        if first is None or not first.HasField("config"):
            raise InvalidRequest("the first message must have the config", field="config")
        config = first.config
        if config.session_id:
            session = await live.resume(submitter, config.session_id)
        else:
            session = await live.begin(submitter, config)
        after = config.after_event if config.session_id else 0
        call = live.attach(session, after)
        try:
            yield await session.started()
            async with aclosing(_serve(live, session, call, after, request_iterator)) as events:
                async for event in events:
                    yield event
            result = await live.result(session)
            if result is not None:
                yield session.result(result)
        finally:
            live.detach(session, call)


async def _serve(
    live: LiveService, session: LiveSession, call: int, after: int, requests: AsyncIterator[Request]
) -> AsyncGenerator[Response, None]:
    """Passes audio to the session and yields its events, until it has ended.

    Raises ``Unavailable`` when the gateway stops, and what either half of the stream raises.
    """
    events: asyncio.Queue[Response | Exception | None] = asyncio.Queue(maxsize=1)

    async def send() -> None:
        async with aclosing(session.events(call, after)) as found:
            async for event in found:
                await events.put(event)

    async def stop() -> None:
        await live.stopping.wait()
        raise Unavailable("the gateway is about to stop: continue the session", retry_after_seconds=0.5)

    async def receive() -> None:
        await _receive(session, call, requests)
        await asyncio.Event().wait()  # the events end the call

    async def run() -> None:
        tasks = {asyncio.create_task(each) for each in (send(), stop(), receive())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except Exception as error:  # noqa: BLE001 - the caller would wait forever
            await events.put(error)
        else:
            await events.put(None)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    running = asyncio.create_task(run())
    try:
        while (event := await events.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _receive(session: LiveSession, call: int, requests: AsyncIterator[Request]) -> None:
    """Passes the caller's messages to the session, to the end of the caller's half of the stream."""
    async for request in requests:
        match request.WhichOneof("message"):
            case "audio":
                if len(request.audio) > MAX_CHUNK_BYTES:
                    raise InvalidRequest(
                        f"an audio message has {len(request.audio)} bytes; at most {MAX_CHUNK_BYTES} are accepted",
                        reason="CHUNK_TOO_LARGE",
                        field="audio",
                    )
                await session.receive(call, request.audio)
            case "flush":
                session.flush(call)
            case "end":
                session.end(call)
            case "config":
                raise InvalidRequest("only the first message has the config", field="config")
            case _:
                raise InvalidRequest("a message has neither audio, flush nor end", field="message")
    if not session.ending:
        raise InvalidRequest("the messages stopped without end", field="end")
