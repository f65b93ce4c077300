"""Limits for request bodies: their size, how slow they may be, and how many recordings arrive at once."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from careca.errors import InvalidRequest, Overloaded

MAX_BODY_BYTES = 1024 * 1024
"""Maximum size of a request's body, unless its endpoint allows more."""

_BODY = "careca.body"
_RETRY_SECONDS = 10.0


class BodyLimitMiddleware:
    """Ends requests whose body is too large or stalls.

    Args:
        app: the rest of the application.
        idle_seconds: how long a body may send nothing.
        min_bytes_per_second: the minimum average rate after the first ``idle_seconds``. Time in which the application
            does not wait for the body does not count.
        max_receiving: the maximum number of recordings that are received at the same time.
    """

    def __init__(self, app: ASGIApp, *, idle_seconds: float, min_bytes_per_second: int, max_receiving: int) -> None:
        self._app = app
        self._idle_seconds = idle_seconds
        self._min_bytes_per_second = min_bytes_per_second
        self._recordings = _Recordings(max_receiving)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = scope[_BODY] = _Body(self._recordings)
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
            if received > body.max_bytes:
                raise body_too_large(body.max_bytes)
            if complete:
                self._recordings.end(body)
            return message

        try:
            await self._app(scope, limited, send)
        finally:
            self._recordings.end(body)

    def _stalled(self) -> InvalidRequest:
        return InvalidRequest(
            f"the body sent nothing for {self._idle_seconds:g} seconds, or on average fewer than "
            f"{self._min_bytes_per_second} bytes per second: send the request again",
            reason="BODY_STALLED",
        )


class _Recordings:
    """The bodies with recordings that are being received."""

    def __init__(self, max_receiving: int) -> None:
        self._max_receiving = max_receiving
        self._bodies: set[_Body] = set()

    def begin(self, body: _Body) -> None:
        if len(self._bodies) >= self._max_receiving:
            raise Overloaded(
                "too many recordings are being received: try again later",
                reason="TOO_MANY_RECORDINGS",
                retry_after_seconds=_RETRY_SECONDS,
            )
        self._bodies.add(body)

    def end(self, body: _Body) -> None:
        self._bodies.discard(body)


class _Body:
    """The body of one request."""

    def __init__(self, recordings: _Recordings) -> None:
        self.recordings = recordings
        self.max_bytes = MAX_BODY_BYTES


def allow_body(request: Request, max_bytes: int) -> None:
    """Allows the request's body to have up to ``max_bytes``.

    Raises ``InvalidRequest`` (BODY_TOO_LARGE) if its header says already that it has more.
    """
    body: _Body = request.scope[_BODY]
    body.max_bytes = max_bytes
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise body_too_large(max_bytes)


def allow_recording(request: Request, max_bytes: int) -> None:
    """Allows the request's body to have a recording in a temporary file: see ``allow_body``.

    Raises ``Overloaded`` (TOO_MANY_RECORDINGS) if too many are being received.
    """
    allow_body(request, max_bytes)
    body: _Body = request.scope[_BODY]
    body.recordings.begin(body)


def body_too_large(max_bytes: int) -> InvalidRequest:
    """The error for a body with more than ``max_bytes``."""
    return InvalidRequest(
        f"the request's body is larger than {max_bytes:,} bytes",
        reason="BODY_TOO_LARGE",
        metadata={"max_bytes": str(max_bytes)},
    )
