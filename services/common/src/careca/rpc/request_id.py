"""The request id: it stays the same in all services, as metadata ``x-request-id`` and in log lines."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable

from structlog.contextvars import get_contextvars

KEY = "x-request-id"
"""The metadata key."""

_CONTEXT = "request_id"
_ACCEPTED = re.compile(r"[\x21-\x7e]{1,128}")

Metadata = Iterable[tuple[str, str | bytes]]


def new() -> str:
    """Returns a new id: a random UUID."""
    return str(uuid.uuid4())


def is_accepted(text: str) -> bool:
    """Whether ``text`` can be a request id: 1 to 128 printable ASCII characters without spaces."""
    return _ACCEPTED.fullmatch(text) is not None


def accepted(metadata: Metadata | None) -> str:
    """Returns the caller's id from ``metadata``, or a new id if there is none or it is not accepted."""
    for key, value in metadata or ():
        if key == KEY and isinstance(value, str) and is_accepted(value):
            return value
    return new()


def current() -> str | None:
    """Returns the id of the request that is being served, ``None`` outside of a request."""
    request_id = get_contextvars().get(_CONTEXT)
    return request_id if isinstance(request_id, str) else None


def outgoing(request_id: str | None = None) -> tuple[tuple[str, str], ...]:
    """Returns metadata for a call to another service, with this id, else the current one, else a new one."""
    return ((KEY, request_id or current() or new()),)


def with_id(metadata: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Returns ``metadata`` with a request id: its own, or a new one if it has none."""
    return metadata if any(key == KEY for key, _ in metadata) else (*metadata, (KEY, new()))
