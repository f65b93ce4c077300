"""The form of a result in the cache: compressed, with a checksum to detect damage."""

from __future__ import annotations

import asyncio
import zlib
from typing import NamedTuple

_CODEC = b"zlib"
_LEVEL = 6

_INLINE_BYTES = 64 * 1024
"""Largest result that is compressed on the event loop; larger ones are compressed in a thread."""


class Envelope(NamedTuple):
    """A compressed result. ``cache.lua`` uses the same order of fields."""

    codec: bytes
    checksum: bytes
    payload: bytes

    def unwrap(self) -> bytes:
        """Returns the result. Raises ``ValueError`` if the envelope is damaged or its codec is unknown."""
        if self.codec != _CODEC:
            raise ValueError(f"unknown codec {self.codec!r}")
        if self.checksum != _checksum(self.payload):
            raise ValueError("checksum does not match")
        try:
            return zlib.decompress(self.payload)
        except zlib.error as error:
            raise ValueError(str(error)) from error


async def wrap(value: bytes) -> Envelope:
    """Compresses a result."""
    if len(value) <= _INLINE_BYTES:
        payload = zlib.compress(value, _LEVEL)
    else:
        payload = await asyncio.to_thread(zlib.compress, value, _LEVEL)
    return Envelope(_CODEC, _checksum(payload), payload)


def _checksum(payload: bytes) -> bytes:
    return b"%08x" % zlib.crc32(payload)
