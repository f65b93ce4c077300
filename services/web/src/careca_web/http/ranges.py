"""Ranges of bytes in requests (RFC 9110): a part from a start, or the last bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from careca.errors import InvalidRequest

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a body."""

    offset: int
    length: int
    size: int
    """Number of bytes of the whole body."""

    @property
    def content_range(self) -> str:
        """The header Content-Range."""
        return f"bytes {self.offset}-{self.offset + self.length - 1}/{self.size}"


def requested_range(headers: Mapping[str, str], size: int, entity_tag: str) -> ByteRange | None:
    """Returns the part that a request asks for; ``None`` if it gets the whole body.

    That is so without a range, with several of them, and if the caller has a part of other bytes (If-Range).
    ``entity_tag`` is in quotation marks. Raises ``InvalidRequest`` (RANGE_NOT_SATISFIABLE) for a part that the body
    does not have.
    """
    match = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if match is None or not (match[1] or match[2]) or headers.get("if-range", entity_tag) != entity_tag:
        return None
    if match[1]:
        first, last = int(match[1]), min(int(match[2]) if match[2] else size, size - 1)
        if match[2] and int(match[2]) < int(match[1]):
            return None  # not a valid range: the header is ignored
    else:
        first, last = max(0, size - int(match[2])), size - 1
    if first > last:
        raise InvalidRequest(
            f"the range begins after the last of {size:,} bytes",
            reason="RANGE_NOT_SATISFIABLE",
            metadata={"size_bytes": str(size)},
        )
    return ByteRange(first, last - first + 1, size)
