"""Errors as a job stores them: with everything that a caller would have received without a job."""

from __future__ import annotations

import json
from collections.abc import Iterator

from careca.errors import CarecaError, InternalError


def encode_error(error: CarecaError) -> bytes:
    """Returns the error as compact JSON."""
    fields = {
        "kind": error.default_reason,
        "reason": error.reason,
        "message": error.message,
        "field": error.field,
        "retry_after_seconds": error.retry_after_seconds,
        "metadata": error.metadata,
    }
    present = {name: value for name, value in fields.items() if value not in (None, "", {})}
    return json.dumps(present, separators=(",", ":")).encode()


def decode_error(content: bytes) -> CarecaError:
    """Returns an error of the same class, or ``InternalError`` if this version does not have that class."""
    fields = json.loads(content)
    error = _CLASSES.get(fields["kind"], InternalError)(fields.get("message", ""), reason=fields["reason"])
    error.field = fields.get("field", "")
    error.retry_after_seconds = fields.get("retry_after_seconds")
    error.metadata = fields.get("metadata", {})
    return error


def _subclasses(base: type[CarecaError]) -> Iterator[type[CarecaError]]:
    for each in base.__subclasses__():
        yield each
        yield from _subclasses(each)


_CLASSES = {each.default_reason: each for each in _subclasses(CarecaError)}
"""All classes of errors. Their constructors differ, but all take a message and a reason."""
