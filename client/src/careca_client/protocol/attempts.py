"""When a call is tried again, and how much time it has left."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from careca.errors import CarecaError, DeadlineExceeded, Unavailable
from careca.v1 import gateway_pb2
from careca_client.events import Retrying
from careca_client.protocol.streams import RecordingStream, TranscribeStream
from careca_client.recording import changed_error
from careca_client.result import TranscriptionResult

FIRST_DELAY_SECONDS = 0.25
"""Wait before the second attempt. Each further wait is twice as long."""

MAX_DELAY_SECONDS = 5.0
"""Longest wait between two attempts, even if the gateway asks for more."""


class Attempts:
    """The attempts of one call of a client: the deadline for all of them, and how many are left.

    Each attempt is a new stream. It offers the digest first, so a recording that has arrived is not sent again.
    """

    def __init__(
        self,
        *,
        retries: int,
        timeout: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._begin = clock()
        self._timeout = timeout
        self._retries = retries
        self._uploaded_bytes = 0
        self.renew()

    def renew(self, least_retries: int = 0) -> None:
        """Resets the number of attempts and the delay, because the gateway answered. The deadline stays.

        There are at least ``least_retries`` further attempts, unless the caller allows none.
        """
        self._retries_left = max(self._retries, least_retries) if self._retries else 0
        self._delay = FIRST_DELAY_SECONDS
        self._attempt = 1

    @property
    def seconds(self) -> float:
        """Seconds since the call began."""
        return self._clock() - self._begin

    def remaining(self) -> float | None:
        """Seconds left for the next attempt, ``None`` without a limit. Raises ``DeadlineExceeded`` if none are left."""
        if self._timeout is None:
            return None
        left = self._timeout - self.seconds
        if left <= 0:
            raise DeadlineExceeded(f"there was no result within {self._timeout:g} s: allow more time")
        return left

    def after(self, error: CarecaError, stream: RecordingStream[Any, Any] | None = None) -> Retrying:
        """Returns when the next attempt follows. Raises the error for the caller if another attempt cannot help.

        ``stream`` is the stream that failed, if it was one that offers a recording.
        """
        if stream is not None:
            self._uploaded_bytes += stream.uploaded_bytes
            if error.reason == "DIGEST_MISMATCH":
                raise changed_error(stream.name) from error
        if not isinstance(error, Unavailable) or not self._retries_left:
            raise error
        delay = min(max(self._delay, error.retry_after_seconds or 0.0), MAX_DELAY_SECONDS)
        left = self.remaining()
        if left is not None and delay >= left:
            raise error
        self._retries_left -= 1
        self._attempt += 1
        self._delay *= 2
        return Retrying(self._attempt, delay, error)

    def conclude(self, message: gateway_pb2.TranscribeResult, stream: TranscribeStream) -> TranscriptionResult:
        """Returns the result of the attempt that succeeded."""
        uploaded_bytes = self._uploaded_bytes + stream.uploaded_bytes
        return TranscriptionResult(message, uploaded_bytes=uploaded_bytes, seconds=self.seconds)
