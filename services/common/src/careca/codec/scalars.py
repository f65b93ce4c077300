"""Conversion of times and digests."""

from __future__ import annotations

import re

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from careca.errors import InvalidRequest
from careca.types import Digest
from careca.v1 import audio_pb2

NANOS = 1_000_000_000
"""Nanoseconds per second."""

# A float cannot store a current time more precisely.
_MICROS = 1_000_000


_SHA256 = re.compile(r"[0-9a-f]{64}")


def set_duration(duration: Duration, seconds: float) -> None:
    """Writes ``seconds``, rounded to nanoseconds, into ``duration``, which marks it as present."""
    nanos = round(seconds * NANOS)
    if nanos < 0:  # both fields have the sign
        duration.seconds = -(-nanos // NANOS)
        duration.nanos = -(-nanos % NANOS)
    else:
        duration.seconds = nanos // NANOS
        duration.nanos = nanos % NANOS


def encode_duration(seconds: float) -> Duration:
    """Returns ``seconds`` as a message, rounded to nanoseconds."""
    duration = Duration()
    set_duration(duration, seconds)
    return duration


def decode_duration(duration: Duration) -> float:
    """Returns seconds. Times with up to nine decimals are decoded exactly as they were encoded."""
    return (duration.seconds * NANOS + duration.nanos) / NANOS


def encode_time(unix: float | None) -> Timestamp | None:
    """Returns the message of ``unix`` seconds since 1970, rounded to microseconds; ``None`` stays unset."""
    if unix is None:
        return None
    micros = round(unix * _MICROS)
    return Timestamp(seconds=micros // _MICROS, nanos=micros % _MICROS * 1_000)


def decode_time(timestamp: Timestamp) -> float:
    """Returns seconds since 1970."""
    return (timestamp.seconds * _MICROS + timestamp.nanos // 1_000) / _MICROS


def encode_digest(digest: Digest) -> audio_pb2.Digest:
    """Returns the message of the digest."""
    return audio_pb2.Digest(sha256=digest.sha256, size_bytes=digest.size_bytes)


def decode_digest(message: audio_pb2.Digest, field: str) -> Digest:
    """Returns the digest in ``message``. Raises ``InvalidRequest`` if the SHA-256 or the size is not valid."""
    if not _SHA256.fullmatch(message.sha256):
        raise InvalidRequest(
            f"{field}.sha256 must be a SHA-256 in 64 lower-case hexadecimal characters", field=f"{field}.sha256"
        )
    if message.size_bytes < 0:
        raise InvalidRequest(
            f"{field}.size_bytes must not be negative, but is {message.size_bytes}",
            field=f"{field}.size_bytes",
            metadata={"size_bytes": str(message.size_bytes)},
        )
    return Digest(message.sha256, message.size_bytes)
