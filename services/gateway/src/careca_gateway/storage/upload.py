"""Bytes of a recording on their way into the store."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from careca.errors import InvalidRequest, Overloaded
from careca.types import Digest

_STORE_FULL_RETRY_SECONDS = 60.0


class Upload:
    """Bytes of one recording on their way into the store. ``write`` may run in a thread while others close.

    Args:
        draft: where they are written to.
        expected: what they must be.
        target: where the recording's place is.
        received: called when it is there.
    """

    def __init__(
        self, draft: Path, expected: Digest, target: Path, received: Callable[[], None] = lambda: None
    ) -> None:
        self._draft = draft
        self._expected = expected
        self._target = target
        self._received = received
        self._hash = hashlib.sha256()
        self._size = 0
        self._file = draft.open("wb", buffering=0)
        # A cancelled request leaves while the thread that it started may still write.
        self._lock = threading.Lock()

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._file.close()

    def write(self, chunk: bytes) -> None:
        """Appends ``chunk``. Raises ``InvalidRequest`` as soon as there are more bytes than were announced."""
        with self._lock, disk_space():
            self._size += len(chunk)
            if self._size > self._expected.size_bytes:
                raise InvalidRequest(
                    f"more bytes were sent than the {self._expected.size_bytes} announced",
                    reason="DIGEST_MISMATCH",
                    field="config.recording.size_bytes",
                )
            self._hash.update(chunk)
            rest = memoryview(chunk)
            while rest:
                rest = rest[self._file.write(rest) :]

    def finish(self) -> None:
        """Moves the recording to its place. Raises ``InvalidRequest`` where it is not what was announced."""
        with self._lock:
            if self._size != self._expected.size_bytes:
                raise InvalidRequest(
                    f"only {self._size} of the {self._expected.size_bytes} bytes announced were sent",
                    reason="DIGEST_MISMATCH",
                    field="config.recording.size_bytes",
                )
            if self._hash.hexdigest() != self._expected.sha256:
                raise InvalidRequest(
                    "the bytes sent have another SHA-256 than was announced",
                    reason="DIGEST_MISMATCH",
                    field="config.recording.sha256",
                )
            self._draft.replace(self._target)
            self._received()


@contextmanager
def disk_space() -> Iterator[None]:
    """Raises ``Overloaded`` where the disk turns out to be full."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise store_full() from error
        raise


def store_full() -> Overloaded:
    """What to raise where the disk is full."""
    return Overloaded(
        "the gateway's store has no space left for the recording; try again later",
        reason="STORE_FULL",
        retry_after_seconds=_STORE_FULL_RETRY_SECONDS,
    )
