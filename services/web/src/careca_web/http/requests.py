"""Around every request: request id, log line, metrics, trace, and an orderly end when the service stops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from careca.errors import CarecaError, InternalError
from careca.rpc import request_id
from careca.telemetry import tracing
from careca.telemetry.logs import get_logger
from careca_web.http.errors import ErrorHandlers, problem_of
from careca_web.http.routes import known_method
from careca_web.metrics import WebMetrics

QUIET_PATHS = ("/healthz", "/readyz")
"""Paths that machines request every few seconds."""

ended_early: ContextVar[bool] = ContextVar("ended_early", default=False)
"""Whether the response of the current request ended early, and the reason is in the log."""

RESPONSE_STARTS = ("http.response.start", "websocket.http.response.start")
"""The messages with the status and headers of a response. The second one refuses a WebSocket."""

WEBSOCKET = "WEBSOCKET"
"""What metrics and logs call the method of a WebSocket."""

_LEFT = 1005
"""The code of a WebSocket that the caller closed, or whose connection broke."""

_UNMATCHED = "unmatched"

_log = get_logger(__name__)


class RequestMiddleware:
    """Wraps all other middleware except the one that adds the security headers.

    Args:
        app: the rest of the application.
        metrics: counts requests.
        errors: answers what no handler has caught.
        paths: the path of each endpoint, with parameters as names.
    """

    def __init__(self, app: ASGIApp, *, metrics: WebMetrics, errors: ErrorHandlers, paths: Mapping[Any, str]) -> None:
        self._app = app
        self._metrics = metrics
        self._errors = errors
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        metadata = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]]
        call_id = request_id.accepted(metadata)
        response = _Response(send, call_id)
        started = time.monotonic()
        quiet = scope["path"] in QUIET_PATHS
        method = WEBSOCKET if scope["type"] == "websocket" else known_method(scope["method"])
        with (
            bound_contextvars(request_id=call_id),
            tracing.serving(method, metadata, {"http.request.method": method}, traced=not quiet) as set_attributes,
            self._metrics.websocket_open() if method == WEBSOCKET else self._metrics.request_in_flight(),
        ):
            try:
                await self._app(scope, receive, response.send)
            except ClientDisconnect:
                _log.debug("the caller disconnected")
            except Exception as error:
                cause = error.__cause__  # Starlette raises an error of its own if it is too late for an answer
                if response.status is None and not response.accepted:
                    problem = problem_of(error)
                    await self._errors.respond(scope["path"], problem)(scope, receive, response.send)
                elif isinstance(cause, CarecaError):  # the server closes the connection, which tells the caller
                    _log.warning("a response ended early", reason=cause.reason, error=cause.message)
                    ended_early.set(True)
                else:
                    raise InternalError("the response failed after it had begun") from error
            finally:
                seconds = time.monotonic() - started
                route = self._paths.get(scope.get("endpoint"), _UNMATCHED)
                if response.accepted:
                    status = HTTPStatus.SWITCHING_PROTOCOLS.value
                    self._metrics.count_closed_websocket(route, response.close_code)
                else:
                    status = response.status or 499  # the caller has gone before there was an answer
                    self._metrics.observe_request(method, route, status, seconds)
                set_attributes(span_name=f"{method} {route}", code=status)
                log = _log.debug if quiet else _log.info
                log(
                    "request served",
                    method=scope.get("method", method),
                    path=scope["path"],
                    status=status,
                    seconds=round(seconds, 3),
                    peer=(scope.get("client") or ("",))[0],
                )


class _Response:
    """The response of one request: adds the request id and remembers the status, or how a WebSocket was closed."""

    def __init__(self, send: Send, call_id: str) -> None:
        self._send = send
        self._call_id = call_id
        self.status: int | None = None
        self.accepted = False
        self.close_code = _LEFT

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind in RESPONSE_STARTS:
            self.status = message["status"]
        if kind == "websocket.accept":
            self.accepted = True
            message.setdefault("headers", [])
        if kind == "websocket.close" and self.accepted:
            self.close_code = message.get("code", 1000)
        elif kind == "websocket.close":
            self.status = HTTPStatus.FORBIDDEN
        if kind == "websocket.accept" or kind in RESPONSE_STARTS:
            MutableHeaders(scope=message)[request_id.KEY] = self._call_id
        await self._send(message)


class Draining:
    """Tells responses without an end, such as event streams, that the service stops."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def begin(self) -> None:
        """Lets all such responses end."""
        self._event.set()

    @property
    def has_begun(self) -> bool:
        """Whether the service stops."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Returns when the service stops."""
        await self._event.wait()
