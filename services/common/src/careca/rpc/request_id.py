"""The id that a request keeps on its way through all services: in metadata, as ``x-request-id``, and in log lines."""

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
    """An id of our own: a random UUID."""
    return str(uuid.uuid4())


def is_accepted(text: str) -> bool:
    """Whether ``text`` can be a request's id: 1 to 128 printable ASCII characters without spaces."""
    return _ACCEPTED.fullmatch(text) is not None


def accepted(metadata: Metadata | None) -> str:
    """The caller's id, or a new one where there is none or it is not 1 to 128 printable ASCII characters."""
    for key, value in metadata or ():
        if key == KEY and isinstance(value, str) and is_accepted(value):
            return value
    return new()


def current() -> str | None:
    """The id of the request that is being served, ``None`` outside of one."""
    request_id = get_contextvars().get(_CONTEXT)
    return request_id if isinstance(request_id, str) else None


def outgoing(request_id: str | None = None) -> tuple[tuple[str, str], ...]:
    """Metadata for a call to another service: this id, else the current one, else a new one."""
    return ((KEY, request_id or current() or new()),)
