"""The gRPC service for live transcripts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio

from careca.errors import InvalidRequest
from careca.rpc.upload_stream import MAX_CHUNK_BYTES
from careca.v1 import live_pb2, live_pb2_grpc
from careca_gateway.api.jobs import require_jobs
from careca_gateway.api.submitter import submitter_of
from careca_gateway.live.service import LiveService
from careca_gateway.live.session import LiveSession
from careca_gateway.streams import raise_when_stopping, run_beside

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
            async with (
                aclosing(session.events(call, after)) as events,
                aclosing(
                    run_beside(events, _receive(session, call, request_iterator), raise_when_stopping(live.stopping))
                ) as served,
            ):
                async for event in served:
                    yield event
            result = await live.result(session)
            if result is not None:
                yield session.result(result)
        finally:
            live.detach(session, call)


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
