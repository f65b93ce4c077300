"""Limits for request bodies: their size, and how long a body may send nothing."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from careca.errors import InvalidRequest

MAX_BODY_BYTES = 1024 * 1024
"""Maximum size of a request's body, unless its endpoint allows more."""

_LIMIT = "careca.body_limit"


class BodyLimitMiddleware:
    """Ends requests whose body is too large or stalls.

    Args:
        app: the rest of the application.
        idle_seconds: how long a body may send nothing.
    """

    def __init__(self, app: ASGIApp, *, idle_seconds: float) -> None:
        self._app = app
        self._idle_seconds = idle_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[_LIMIT] = MAX_BODY_BYTES
        received, complete = 0, False

        async def limited() -> Message:
            nonlocal received, complete
            if complete:  # from now on this waits for the caller to disconnect
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._idle_seconds)
            except TimeoutError:
                raise InvalidRequest(
                    f"the body sent nothing for {self._idle_seconds:g} seconds: send the request again",
                    reason="BODY_STALLED",
                ) from None
            received += len(message.get("body", b""))
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            if received > scope[_LIMIT]:
                raise body_too_large(scope[_LIMIT])
            return message

        await self._app(scope, limited, send)


def allow_body(request: Request, max_bytes: int) -> None:
    """Allows the request's body to have up to ``max_bytes``.

    Raises ``InvalidRequest`` (BODY_TOO_LARGE) if its header says already that it has more.
    """
    request.scope[_LIMIT] = max_bytes
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise body_too_large(max_bytes)


def body_too_large(max_bytes: int) -> InvalidRequest:
    """The error for a body with more than ``max_bytes``."""
    return InvalidRequest(
        f"the request's body is larger than {max_bytes:,} bytes",
        reason="BODY_TOO_LARGE",
        metadata={"max_bytes": str(max_bytes)},
    )
