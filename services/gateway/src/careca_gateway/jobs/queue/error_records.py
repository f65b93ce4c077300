"""Errors as a job keeps them: with everything that whoever waits for its result would have been told without a job."""

from __future__ import annotations

import json
from collections.abc import Iterator

from careca.errors import CarecaError, InternalError


def encode_error(error: CarecaError) -> bytes:
    """The error in compact JSON."""
    written = {
        "kind": error.default_reason,
        "reason": error.reason,
        "message": error.message,
        "field": error.field,
        "retry_after_seconds": error.retry_after_seconds,
        "metadata": error.metadata,
    }
    given = {name: value for name, value in written.items() if value not in (None, "", {})}
    return json.dumps(given, separators=(",", ":")).encode()


def decode_error(written: bytes) -> CarecaError:
    """The error of the same class that was written; where that class is not known here, ``InternalError``."""
    read = json.loads(written)
    error = _KINDS.get(read["kind"], InternalError)(read.get("message", ""), reason=read["reason"])
    error.field = read.get("field", "")
    error.retry_after_seconds = read.get("retry_after_seconds")
    error.metadata = read.get("metadata", {})
    return error


def _classes(base: type[CarecaError]) -> Iterator[type[CarecaError]]:
    for each in base.__subclasses__():
        yield each
        yield from _classes(each)


_KINDS = {each.default_reason: each for each in _classes(CarecaError)}
"""The closed tree of errors. The classes' constructors take different arguments; all take these two."""
