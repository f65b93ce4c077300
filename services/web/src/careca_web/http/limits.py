"""Limits for request bodies: their size, how long a body may send nothing, and how slow it may be."""

from __future__ import annotations

import asyncio
import time

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
        min_bytes_per_second: the minimum average rate after the first ``idle_seconds``. Time in which the application
            does not wait for the body does not count.
    """

    def __init__(self, app: ASGIApp, *, idle_seconds: float, min_bytes_per_second: int) -> None:
        self._app = app
        self._idle_seconds = idle_seconds
        self._min_bytes_per_second = min_bytes_per_second

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[_LIMIT] = MAX_BODY_BYTES
        received, waited, complete = 0, 0.0, False

        async def limited() -> Message:
            nonlocal received, waited, complete
            if complete:  # from now on this waits for the caller to disconnect
                return await receive()
            allowed = self._idle_seconds + received / self._min_bytes_per_second - waited
            started = time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), min(allowed, self._idle_seconds))
            except TimeoutError:
                raise self._stalled() from None
            waited += time.monotonic() - started
            received += len(message.get("body", b""))
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            if received > scope[_LIMIT]:
                raise body_too_large(scope[_LIMIT])
            return message

        await self._app(scope, limited, send)

    def _stalled(self) -> InvalidRequest:
        return InvalidRequest(
            f"the body sent nothing for {self._idle_seconds:g} seconds, or on average fewer than "
            f"{self._min_bytes_per_second} bytes per second: send the request again",
            reason="BODY_STALLED",
        )


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
