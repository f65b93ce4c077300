"""WebSockets: reading messages with limits, and the codes with which they are closed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from careca.errors import InvalidRequest
from careca_web.http.errors import Problem

MAX_MESSAGE_BYTES = 4 << 20
"""A larger message closes any WebSocket without an explanation."""

NORMAL, UNSUPPORTED, POLICY, TOO_LARGE = 1000, 1003, 1008, 1009
INTERNAL, RESTART, TRY_LATER = 1011, 1012, 1013

_BY_STATUS = {
    400: UNSUPPORTED,
    413: TOO_LARGE,
    422: UNSUPPORTED,
    429: TRY_LATER,
    503: TRY_LATER,
    504: TRY_LATER,
    507: TRY_LATER,
}


def close_code(problem: Problem) -> int:
    """Returns the code that tells the caller what kind of problem there is."""
    default = INTERNAL if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR else POLICY
    return _BY_STATUS.get(problem.status, default)


async def receive(websocket: WebSocket, *, max_bytes: int, max_text_bytes: int) -> bytes | str:
    """Returns the next message. Raises ``WebSocketDisconnect``, and ``InvalidRequest`` (MESSAGE_TOO_LARGE)."""
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"], message.get("reason"))
    data: bytes | None = message.get("bytes")
    text: str | None = message.get("text")
    if data is not None:
        _check_size(len(data), max_bytes)
        return data
    _check_size(len((text or "").encode()), max_text_bytes)
    return text or ""


def read_json(text: str) -> dict[str, Any]:
    """Returns the object in a text message. Raises ``InvalidRequest`` (BAD_MESSAGE) if there is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise bad_message("the message is not valid JSON") from None
    if not isinstance(value, dict):
        raise bad_message("the message must be a JSON object")
    return value


def bad_message(text: str) -> InvalidRequest:
    """The error for a message that cannot be used."""
    return InvalidRequest(text, reason="BAD_MESSAGE")


async def first_to_end(*works: Awaitable[None]) -> None:
    """Runs ``works`` until one of them ends, and cancels the others. Raises what that one raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise InvalidRequest(
            f"the message has {size:,} bytes; at most {most:,} are accepted",
            reason="MESSAGE_TOO_LARGE",
            metadata={"max_bytes": str(most)},
        )
