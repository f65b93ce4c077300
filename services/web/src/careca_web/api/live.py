"""Live transcripts over a WebSocket: audio comes in while people talk, and words with speakers go out."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import ValidationError

from careca.errors import InvalidRequest, PreconditionFailed
from careca.types import OutputFormat
from careca_client import AsyncClient, LiveResult
from careca_web.api.models.live import COMMAND, LiveConfig, LiveEnd, event_json, named_as_here
from careca_web.api.results import without_embeddings
from careca_web.api.schemas import in_body
from careca_web.http import sockets
from careca_web.http.errors import problem_body, problem_of
from careca_web.live.sessions import RESTARTING, Feed, LiveSession, LiveSessions
from careca_web.metrics import WebMetrics
from careca_web.sessions.callers import CallerClient, CallerIdentity

MAX_AUDIO_BYTES = 1 << 20
"""Largest message with audio: half a minute of PCM at 16 kHz."""

MAX_TEXT_BYTES = 64 * 1024
"""Largest JSON message."""

CONFIG_SECONDS = 20.0
"""How long a caller may take to send the first message."""

IDLE_SECONDS = 600.0
"""After this time without a message, a session ends as if its caller had said so."""


def routes(metrics: WebMetrics, sessions: LiveSessions) -> APIRouter:
    """Returns the endpoint /live."""
    router = APIRouter(prefix="/api")

    @router.websocket("/live")
    async def live(websocket: WebSocket, client: CallerClient, caller: CallerIdentity) -> None:
        """Serves one WebSocket: docs/http.md describes the messages."""
        await websocket.accept()
        try:
            config = await _config(websocket)
            if config.session_id:
                session = await sessions.resume(caller, client, config.session_id)
            else:
                session = await sessions.begin(caller, client, config.value())
            async with session.attached(config.after_event) as feed:
                await sockets.first_to_end(
                    _listen(websocket, session, metrics), _tell(websocket, client, session, feed), feed.until_replaced()
                )
            await websocket.close(sockets.NORMAL)
        except WebSocketDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - the status has been sent: the caller learns of it by a message
            await _refuse(websocket, error)

    return router


async def _config(websocket: WebSocket) -> LiveConfig:
    try:
        async with asyncio.timeout(CONFIG_SECONDS):
            message = await _receive(websocket)
    except TimeoutError:
        raise PreconditionFailed(f"no config came within {CONFIG_SECONDS:g} seconds", reason="CONFIG_MISSING") from None
    if isinstance(message, bytes):
        raise sockets.bad_message("the first message must be the config, as JSON")
    try:
        return LiveConfig.model_validate(sockets.read_json(message))
    except ValidationError as error:
        raise in_body(error) from None


async def _receive(websocket: WebSocket) -> bytes | str:
    return await sockets.receive(websocket, max_bytes=MAX_AUDIO_BYTES, max_text_bytes=MAX_TEXT_BYTES)


async def _listen(websocket: WebSocket, session: LiveSession, metrics: WebMetrics) -> None:
    """Passes messages on until the caller disconnects."""
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):  # wait_for may lose that this task is cancelled
                message = await _receive(websocket)
        except TimeoutError:
            await session.end()
            continue
        if isinstance(message, bytes):
            metrics.count_live_audio(len(message))
            await session.send(message)
            continue
        try:
            command = COMMAND.validate_python(sockets.read_json(message))
        except ValidationError as error:
            raise in_body(error) from None
        if isinstance(command, LiveEnd):
            await session.end()
        else:
            await session.flush()


async def _tell(websocket: WebSocket, client: AsyncClient, session: LiveSession, feed: Feed) -> None:
    """Sends events up to the last one."""
    while (event := await feed.next()) is not None:
        body = event_json(event)
        if isinstance(event, LiveResult):
            body |= {"job_id": session.job_id, "result": await _result(client, session.job_id)}
        await _send(websocket, body)


async def _result(client: AsyncClient, job_id: str) -> dict[str, Any]:
    """Returns the same JSON as the endpoint for results."""
    formatted = await client.job_result(job_id, formats=[OutputFormat.JSON])
    result: dict[str, Any] = json.loads(without_embeddings(formatted.formats[OutputFormat.JSON]))
    return result


async def _refuse(websocket: WebSocket, error: Exception) -> None:
    """Says what is wrong, and closes the WebSocket."""
    problem = problem_of(named_as_here(error) if isinstance(error, InvalidRequest) else error)
    body, _ = problem_body(problem)
    try:
        await _send(websocket, body | {"type": "error"})
        await websocket.close(sockets.RESTART if problem.reason == RESTARTING else sockets.close_code(problem))
    except WebSocketDisconnect:
        return


async def _send(websocket: WebSocket, body: dict[str, Any]) -> None:
    await websocket.send_text(json.dumps(body, ensure_ascii=False))
