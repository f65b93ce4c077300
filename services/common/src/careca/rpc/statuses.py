"""Converts ``careca.errors`` to gRPC statuses with google.rpc details, and back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from careca import errors
from careca.codec import decode_duration, encode_duration
from careca.errors import CarecaError

DOMAIN = "careca.v1"
"""Domain of every ``ErrorInfo``."""

DETAILS_KEY = "grpc-status-details-bin"
"""Key of the trailing metadata with the serialized google.rpc.Status."""

# A longer message could exceed the header size that HTTP/2 peers accept, and then the whole status would be lost.
_MAX_MESSAGE_CHARACTERS = 1_000

# Key of ErrorInfo's metadata for the class of an error whose reason is more specific than its class.
_KIND = "kind"

# gRPC's texts for a failed connection. They contain internal addresses, which callers of a gateway must not see.
_NO_CONNECTION = (
    re.compile(
        r"(?:failed to connect to all addresses|connections to all backends failing); last error: [A-Z_]+: "
        r"(?:ipv[46]|unix|unix-abstract|vsock):\S*?: "
        r"(?:Failed to connect to remote host: |connect failed: addr: \S+ error: )?(?P<why>.*)",
        re.DOTALL,
    ),
    re.compile(r"errors resolving .*?: \[field:hostname lookup error:(?P<why>.*)\]", re.DOTALL),
)

# The text of grpc.aio for a call whose message could not be sent, and how long to wait for the server's status.
_UNSENT = "Internal error from Core"
_STATUS_WAIT_SECONDS = 1.0

S = TypeVar("S")

_CLASSES: tuple[type[CarecaError], ...] = (
    errors.InvalidRequest,
    errors.InvalidRecording,
    errors.NotFound,
    errors.Unauthenticated,
    errors.PermissionDenied,
    errors.PreconditionFailed,
    errors.Overloaded,
    errors.OutOfMemory,
    errors.Unavailable,
    errors.DeadlineExceeded,
    errors.Cancelled,
    errors.InternalError,
)
_CLASS_BY_KIND = {error_class.default_reason: error_class for error_class in _CLASSES}

# For statuses of gRPC itself, a proxy or another server. RESOURCE_EXHAUSTED is not among them: without our details it
# means that a message was too large, and a retry would not help.
_CLASS_BY_BARE_STATUS: dict[grpc.StatusCode, type[CarecaError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PreconditionFailed,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.CANCELLED: errors.Cancelled,
}


def status_code(error: CarecaError) -> grpc.StatusCode:
    """Returns the status of the error's class."""
    return grpc.StatusCode[error.status]


def to_status(error: CarecaError) -> status_pb2.Status:
    """Returns the status with details: ``ErrorInfo``, ``BadRequest`` for a field, ``RetryInfo`` for a retry delay."""
    number: int = status_code(error).value[0]
    status = status_pb2.Status(code=number, message=error.message[:_MAX_MESSAGE_CHARACTERS])
    metadata = dict(error.metadata)
    if error.reason != error.default_reason:
        metadata[_KIND] = error.default_reason
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=status.message)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_seconds is not None:
        delay = encode_duration(error.retry_after_seconds)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_rpc_error(error: grpc.RpcError) -> CarecaError:
    """Returns the error that the service raised, or the nearest class if the status is not from a Careca service."""
    call: Any = (
        error  # RpcError does not declare the methods of a failed call, but all errors raised by calls have them
    )
    status = _details(call.trailing_metadata())
    info = error_details_pb2.ErrorInfo()
    if status is None or not _unpack(status, info) or info.domain != DOMAIN:
        return _from_bare_status(call.code(), call.details() or "")
    metadata = dict(info.metadata)
    error_class = _CLASS_BY_KIND.get(metadata.pop(_KIND, info.reason), errors.InternalError)
    return _create(error_class, status, info.reason, metadata)


def is_unanswered(error: CarecaError) -> bool:
    """Returns whether a call failed with ``error`` because it did not reach the service. A retry may reach it."""
    call: Any = error.__cause__
    return (
        isinstance(error, errors.Unavailable)
        and isinstance(call, grpc.RpcError)
        and _details(call.trailing_metadata()) is None
    )


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raises ``CarecaError`` if a gRPC call made inside fails. For asyncio and for blocking calls."""
    try:
        yield
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error


async def responses_of(call: grpc.aio.StreamStreamCall[Any, S]) -> AsyncGenerator[S, None]:
    """Yields the responses of a bidirectional call. Raises the ``CarecaError`` that ended it.

    For calls that the server may refuse while the client still sends. grpc.aio 1.85 then sets the call's status twice,
    in any order: to the server's status, and to an INTERNAL of its own for the message that could not be sent.
    """
    ended: asyncio.Future[grpc.aio.AioRpcError] = asyncio.get_running_loop().create_future()

    def note_status(_: Any) -> None:
        status = grpc.aio.AioRpcError(
            at_once(call.code()), grpc.aio.Metadata(), at_once(call.trailing_metadata()), at_once(call.details())
        )
        if status.details() != _UNSENT and not ended.done():
            ended.set_result(status)

    call.add_done_callback(note_status)
    try:
        async for response in call:
            yield response
    except grpc.aio.AioRpcError as error:
        await asyncio.wait([ended], timeout=_STATUS_WAIT_SECONDS)
        status = ended.result() if ended.done() else error
        if status.code() is not grpc.StatusCode.OK:
            raise from_rpc_error(status) from error


def at_once(ready: Coroutine[Any, Any, S]) -> S:
    """Returns the result of a coroutine that does not wait."""
    try:
        ready.send(None)
    except StopIteration as done:
        value: S = done.value
        return value
    raise AssertionError("a call that is done has a status")


def _create(
    error_class: type[CarecaError], status: status_pb2.Status, reason: str, metadata: dict[str, str]
) -> CarecaError:
    """Returns the error as it was before ``to_status``. The constructors of the classes take different arguments."""
    error = error_class(status.message, reason=reason)
    error.metadata = metadata
    request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    if _unpack(status, request) and request.field_violations:
        error.field = request.field_violations[0].field
    error.retry_after_seconds = decode_duration(retry.retry_delay) if _unpack(status, retry) else None
    return error


def _from_bare_status(code: grpc.StatusCode, details: str) -> CarecaError:
    for wording in _NO_CONNECTION:
        if match := wording.fullmatch(details):
            details = f"no connection: {match['why']}"
    error_class = _CLASS_BY_BARE_STATUS.get(code)
    if error_class is None:
        return errors.InternalError(f"the call failed with {code.name}: {details}")
    return error_class(details or f"the call failed with {code.name}")


def _details(trailing_metadata: Any) -> status_pb2.Status | None:
    for key, value in trailing_metadata or ():
        if key == DETAILS_KEY:
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:  # not from a Careca service: only the bare status is used
                return None
    return None


def _unpack(status: status_pb2.Status, detail: Any) -> bool:
    """Fills ``detail`` from the first detail of its type. Returns whether there is one."""
    return any(packed.Unpack(detail) for packed in status.details)
