"""Answers HEAD wherever GET is answered: FastAPI does not."""

from __future__ import annotations

from collections.abc import Sequence
from re import Pattern

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadMiddleware:
    """Serves HEAD as GET, and leaves out the body.

    Args:
        app: the rest of the application.
        own: the paths with an endpoint for HEAD, which it keeps.
    """

    def __init__(self, app: ASGIApp, *, own: Sequence[Pattern[str]]) -> None:
        self._app = app
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or any(path.match(scope["path"]) for path in self._own):
            await self._app(scope, receive, send)
            return

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body"})  # the end: a stream that would go on learns that it may not

        scope["method"] = "GET"
        try:
            await self._app(scope, receive, send_headers)
        finally:
            scope["method"] = "HEAD"
