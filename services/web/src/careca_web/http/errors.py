"""Errors as HTTP responses: problem details (RFC 9457), or the shape that another API prescribes for its paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from careca.errors import (
    Cancelled,
    CarecaError,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    NotFound,
    OutOfMemory,
    Overloaded,
    PermissionDenied,
    PreconditionFailed,
    Unauthenticated,
    Unavailable,
    internal_error,
)
from careca.resources.disk import is_full
from careca.rpc import request_id
from careca.rpc.statuses import is_unanswered
from careca.telemetry.logs import get_logger

_STATUS_BY_CLASS: Mapping[type[CarecaError], int] = {
    InvalidRequest: 400,
    Unauthenticated: 401,
    PermissionDenied: 403,
    NotFound: 404,
    PreconditionFailed: 409,
    Cancelled: 409,
    Overloaded: 429,
    InternalError: 500,
    Unavailable: 503,
    DeadlineExceeded: 504,
    OutOfMemory: 507,
}

_STATUS_BY_REASON = {
    "BODY_STALLED": 408,
    "BODY_TOO_LARGE": 413,
    "FIELDS_TOO_LARGE": 413,
    "MESSAGE_TOO_LARGE": 413,
    "METHOD_NOT_ALLOWED": 405,
    "RANGE_NOT_SATISFIABLE": 416,
    "RECORDING_TOO_LARGE": 413,
    "REVISION_CONFLICT": 412,
    "REVISION_REQUIRED": 428,
    "SPEAKER_EXISTS": 409,
    "TUS_VERSION": 412,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "UPLOAD_BUSY": 423,
}

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a request, as one value for every shape of an error response."""

    status: int
    reason: str
    """A stable UPPER_SNAKE_CASE name for programs."""
    message: str
    field: str = ""
    retry_after_seconds: float | None = None
    metadata: Mapping[str, str] | None = None


class ErrorBody(Protocol):
    """Returns the JSON body of an error response, and its media type."""

    def __call__(self, problem: Problem) -> tuple[dict[str, Any], str]:
        """See the class."""


def problem_body(problem: Problem) -> tuple[dict[str, Any], str]:
    """Returns problem details with the error's reason, field and metadata as extensions."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.message,
        "reason": problem.reason,
        "field": problem.field,
        "retry_after_seconds": problem.retry_after_seconds,
        "request_id": request_id.current(),
        "metadata": dict(problem.metadata or {}),
    }, "application/problem+json"


class ErrorHandlers:
    """Turns exceptions into responses. Paths that begin with a prefix in ``bodies`` get their own shape."""

    def __init__(self, bodies: Mapping[str, ErrorBody]) -> None:
        self._bodies = bodies

    def install(self, app: FastAPI) -> None:
        """Makes ``app`` use these handlers."""
        handlers: Mapping[type[Exception], Callable[[Request, Any], Any]] = {
            CarecaError: lambda request, error: self.respond(request.url.path, problem_of(error)),
            RequestValidationError: self._invalid,
            HTTPException: self._http,
            Exception: self._bug,
        }
        for error_class, handler in handlers.items():
            app.add_exception_handler(error_class, _as_coroutine(handler))

    def respond(self, path: str, problem: Problem) -> Response:
        """Returns the response for ``problem`` in the shape for ``path``."""
        body_of = next((body for prefix, body in self._bodies.items() if path.startswith(prefix)), problem_body)
        body, media_type = body_of(problem)
        headers = {}
        if problem.status in (429, 503) or problem.retry_after_seconds is not None:
            headers["Retry-After"] = str(math.ceil(problem.retry_after_seconds or 1))
        if problem.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and problem.metadata:
            headers["Content-Range"] = f"bytes */{problem.metadata.get('size_bytes', '*')}"
        if problem.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(body, problem.status, headers, media_type)

    def _invalid(self, request: Request, error: RequestValidationError) -> Response:
        return self.respond(request.url.path, _invalid_problem(error))

    def _http(self, request: Request, error: HTTPException) -> Response:
        """What Starlette and FastAPI raise themselves. The reading of a body may have failed with our own error."""
        if isinstance(error.__cause__, CarecaError):
            return self.respond(request.url.path, problem_of(error.__cause__))
        reason = {404: "NO_SUCH_PATH", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "INVALID_REQUEST")
        message = "there is nothing at this path" if error.status_code == HTTPStatus.NOT_FOUND else str(error.detail)
        response = self.respond(request.url.path, Problem(error.status_code, reason, message))
        response.headers.update(error.headers or {})
        return response

    def _bug(self, request: Request, error: Exception) -> Response:
        return self.respond(request.url.path, problem_of(error))


def problem_of(error: Exception) -> Problem:
    """Returns what the caller may see of ``error``. Bugs are logged, and the caller gets only the request id."""
    if isinstance(error, RequestValidationError):
        return _invalid_problem(error)
    if is_full(error):
        _log.error("the disk is full", error=str(error))
        error = Unavailable("the disk of the web service is full: try again later", reason="DISK_FULL")
    if not isinstance(error, CarecaError):
        _log.error("a request failed unexpectedly", exc_info=error)
        error = internal_error(request_id.current())
    elif is_unanswered(error):
        error = Unavailable(f"the gateway cannot be reached: {error.message}", reason="GATEWAY_UNREACHABLE")
    status = _STATUS_BY_REASON.get(error.reason) or next(
        status for error_class, status in _STATUS_BY_CLASS.items() if isinstance(error, error_class)
    )
    return Problem(status, error.reason, error.message, error.field, error.retry_after_seconds, error.metadata)


def _invalid_problem(error: RequestValidationError) -> Problem:
    """The first thing that is wrong with the fields, such as ``body.options.speaker_count``."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    where = f"{field}: " if field else ""
    return Problem(422, "INVALID_REQUEST", f"{where}{first['msg']}", field)


def _as_coroutine(handler: Callable[[Request, Any], Response]) -> Callable[[Request, Any], Any]:
    """Makes Starlette call ``handler`` in the event loop, where the request id is known, not in a thread."""

    async def handle(request: Request, error: Exception) -> Response:
        return handler(request, error)

    return handle
