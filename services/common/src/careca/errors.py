"""Everything that can go wrong on purpose, named once. Each class names its gRPC status.

    CarecaError
    ├── InvalidRequest            INVALID_ARGUMENT     the caller must change the request
    │   └── InvalidRecording      INVALID_ARGUMENT     these bytes are no recording that can be used
    ├── NotFound                  NOT_FOUND
    ├── Unauthenticated           UNAUTHENTICATED      nobody knows who the caller is
    ├── PermissionDenied          PERMISSION_DENIED
    ├── PreconditionFailed        FAILED_PRECONDITION  the service must be changed first
    ├── Overloaded                RESOURCE_EXHAUSTED   later may work; says when
    ├── OutOfMemory               RESOURCE_EXHAUSTED   this recording is too much for this device
    ├── Unavailable               UNAVAILABLE          starting, draining or not reachable; says when
    ├── DeadlineExceeded          DEADLINE_EXCEEDED
    ├── Cancelled                 CANCELLED
    └── InternalError             INTERNAL             a fault of ours; its details are in the log only

``careca.rpc.statuses`` turns these into statuses with google.rpc details, and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class CarecaError(Exception):
    """Base of all expected failures.

    ``reason`` is a stable UPPER_SNAKE_CASE name for programs; ``message`` is a sentence for people that says what is
    wrong and what to do; every variable part of it is in ``metadata`` too. ``field`` is the dotted path of the request
    field at fault, ``retry_after_seconds`` is set where waiting helps.
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
    """The request breaks a documented rule; sending it again unchanged cannot work."""

    status = "INVALID_ARGUMENT"
    default_reason = "INVALID_REQUEST"


class InvalidRecording(InvalidRequest):
    """The bytes sent are no recording that can be transcribed: no audio, damaged, too long, too large."""

    default_reason = "INVALID_RECORDING"


class NotFound(CarecaError):
    """What the request names does not exist."""

    status = "NOT_FOUND"
    default_reason = "NOT_FOUND"


class Unauthenticated(CarecaError):
    """The caller did not say who it is, or not so that it can be believed."""

    status = "UNAUTHENTICATED"
    default_reason = "UNAUTHENTICATED"


class PermissionDenied(CarecaError):
    """The caller is known but may not do this."""

    status = "PERMISSION_DENIED"
    default_reason = "PERMISSION_DENIED"


class PreconditionFailed(CarecaError):
    """The service is not in a state to do this until somebody changes it, for example by fetching weights."""

    status = "FAILED_PRECONDITION"
    default_reason = "PRECONDITION_FAILED"


class Overloaded(CarecaError):
    """All slots and waiting places are taken."""

    status = "RESOURCE_EXHAUSTED"
    default_reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_seconds: float = 5.0, reason: str | None = None) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds, reason=reason)


class OutOfMemory(CarecaError):
    """The device has not enough memory for this recording; trying again at once cannot work."""

    status = "RESOURCE_EXHAUSTED"
    default_reason = "OUT_OF_MEMORY"


class Unavailable(CarecaError):
    """The service cannot take the call now: its model is loading, it is draining, or it cannot be reached."""

    status = "UNAVAILABLE"
    default_reason = "UNAVAILABLE"


class DeadlineExceeded(CarecaError):
    """The caller's deadline passed before the work was done."""

    status = "DEADLINE_EXCEEDED"
    default_reason = "DEADLINE_EXCEEDED"


class Cancelled(CarecaError):
    """The caller went away or cancelled; the device is free again."""

    status = "CANCELLED"
    default_reason = "CANCELLED"


class InternalError(CarecaError):
    """A fault of ours. Its text never reaches the caller, only the request id to find it in the log by."""

    status = "INTERNAL"
    default_reason = "INTERNAL"
