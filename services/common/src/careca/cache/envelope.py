"""How a result is wrapped for the cache: compressed, and with a checksum so that damage is noticed."""

from __future__ import annotations

import asyncio
import zlib
from typing import NamedTuple

_CODEC = b"zlib"
_LEVEL = 6

_INLINE_BYTES = 64 * 1024
"""What is compressed on the event loop; more goes to a thread."""


class Envelope(NamedTuple):
    """A wrapped result, in the order in which ``cache.lua`` takes and gives its parts."""

    codec: bytes
    checksum: bytes
    payload: bytes

    def open(self) -> bytes:
        """The result. Raises ``ValueError`` where the envelope is damaged or of a kind that is not known."""
        if self.codec != _CODEC:
            raise ValueError(f"unknown codec {self.codec!r}")
        if self.checksum != _checksum(self.payload):
            raise ValueError("checksum does not match")
        try:
            return zlib.decompress(self.payload)
        except zlib.error as error:
            raise ValueError(str(error)) from error


async def seal(value: bytes) -> Envelope:
    """Wraps a result."""
    if len(value) <= _INLINE_BYTES:
        payload = zlib.compress(value, _LEVEL)
    else:
        payload = await asyncio.to_thread(zlib.compress, value, _LEVEL)
    return Envelope(_CODEC, _checksum(payload), payload)


def _checksum(payload: bytes) -> bytes:
    return b"%08x" % zlib.crc32(payload)
