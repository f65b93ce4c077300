"""All expected errors. Each class has its gRPC status.

    CarecaError
    ├── InvalidRequest            INVALID_ARGUMENT     the caller must change the request
    │   └── InvalidRecording      INVALID_ARGUMENT     the bytes are not a usable recording
    ├── NotFound                  NOT_FOUND
    ├── Unauthenticated           UNAUTHENTICATED      the caller is not authenticated
    ├── PermissionDenied          PERMISSION_DENIED
    ├── PreconditionFailed        FAILED_PRECONDITION  an operator must change the service first
    ├── Overloaded                RESOURCE_EXHAUSTED   a retry may succeed; has a delay
    ├── OutOfMemory               RESOURCE_EXHAUSTED   the device has too little memory for the recording
    ├── Unavailable               UNAVAILABLE          starting, draining or not reachable; has a delay
    ├── DeadlineExceeded          DEADLINE_EXCEEDED
    ├── Cancelled                 CANCELLED
    └── InternalError             INTERNAL             a bug; its details are in the log only

``careca.rpc.statuses`` converts these to statuses with google.rpc details, and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class CarecaError(Exception):
    """Base of all expected errors.

    ``reason`` is a stable UPPER_SNAKE_CASE name for programs. ``message`` is a sentence for people that says what is
    wrong and what to do; its variable parts are in ``metadata`` too. ``field`` is the dotted path of the wrong request
    field. ``retry_after_seconds`` is set if a retry may succeed.
    """

    status: ClassVar[str] = "UNKNOWN"
    default_reason: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str = "",
        retry_after_seconds: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self.metadata = dict(metadata or {})


class InvalidRequest(CarecaError):
    """The request violates a documented rule; a retry without a change cannot succeed."""

    status = "INVALID_ARGUMENT"
    default_reason = "INVALID_REQUEST"


class InvalidRecording(InvalidRequest):
    """The bytes are not a recording that can be transcribed: no audio, damaged, too long or too large."""

    default_reason = "INVALID_RECORDING"


class NotFound(CarecaError):
    """The object of the request does not exist."""

    status = "NOT_FOUND"
    default_reason = "NOT_FOUND"


class Unauthenticated(CarecaError):
    """The caller sent no credentials, or credentials that are not valid."""

    status = "UNAUTHENTICATED"
    default_reason = "UNAUTHENTICATED"


class PermissionDenied(CarecaError):
    """The caller is authenticated but may not do this."""

    status = "PERMISSION_DENIED"
    default_reason = "PERMISSION_DENIED"


class PreconditionFailed(CarecaError):
    """The service cannot do this until an operator changes something, for example fetches weights."""

    status = "FAILED_PRECONDITION"
    default_reason = "PRECONDITION_FAILED"


class Overloaded(CarecaError):
    """All slots and waiting places are taken."""

    status = "RESOURCE_EXHAUSTED"
    default_reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_seconds: float = 5.0, reason: str | None = None) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds, reason=reason)


class OutOfMemory(CarecaError):
    """The device has too little memory for this recording; an immediate retry cannot succeed."""

    status = "RESOURCE_EXHAUSTED"
    default_reason = "OUT_OF_MEMORY"


class Unavailable(CarecaError):
    """The service cannot accept the call now: its model is loading, it is draining, or it is not reachable."""

    status = "UNAVAILABLE"
    default_reason = "UNAVAILABLE"


class DeadlineExceeded(CarecaError):
    """The deadline of the call passed before the work was done."""

    status = "DEADLINE_EXCEEDED"
    default_reason = "DEADLINE_EXCEEDED"


class Cancelled(CarecaError):
    """The caller disconnected or cancelled; the device is free again."""

    status = "CANCELLED"
    default_reason = "CANCELLED"


class InternalError(CarecaError):
    """A bug. The caller never gets its text, only the request id, which finds it in the log."""

    status = "INTERNAL"
    default_reason = "INTERNAL"


def internal_error(request_id: str | None) -> InternalError:
    """Returns what a caller gets in place of a bug, whose details must be logged under ``request_id``."""
    return InternalError(f"internal error; the service's log has the details under request id {request_id}")


def cannot_listen(address: str, variable: str) -> PreconditionFailed:
    """Returns the error for an address that a server cannot listen on. ``variable`` is the setting of its port."""
    return PreconditionFailed(
        f"cannot listen on {address}: it is in use or not an address of this machine; choose another with {variable}",
        reason="CANNOT_LISTEN",
        metadata={"address": address},
    )
