"""An upload: writes the bytes of a recording to the store and checks them."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from careca.errors import InvalidRequest, Overloaded
from careca.resources import disk
from careca.types import Digest

_STORE_FULL_RETRY_SECONDS = 60.0


class Upload:
    """The upload of one recording. ``write`` may still run in a thread while the upload is closed.

    Args:
        draft: the temporary file to write to.
        expected: the digest that the client announced.
        target: the path of the complete recording.
        received: is called when the recording is complete.
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
        # A cancelled request ends while the thread that it started may still write.
        self._lock = threading.Lock()

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._file.close()

    def write(self, chunk: bytes) -> None:
        """Appends ``chunk``. Raises ``InvalidRequest`` as soon as there are more bytes than announced."""
        with self._lock:
            self._size += len(chunk)
            if self._size > self._expected.size_bytes:
                raise _mismatch(f"more bytes were sent than the {self._expected.size_bytes} announced", "size_bytes")
            self._hash.update(chunk)
            write_all(self._file, chunk)

    def finish(self) -> None:
        """Moves the recording to its path. Raises ``InvalidRequest`` if it differs from what was announced."""
        with self._lock:
            if self._size != self._expected.size_bytes:
                raise _mismatch(
                    f"only {self._size} of the {self._expected.size_bytes} bytes announced were sent", "size_bytes"
                )
            if self._hash.hexdigest() != self._expected.sha256:
                raise _mismatch("the bytes sent have another SHA-256 than was announced", "sha256")
            self._draft.replace(self._target)
            self._received()


def _mismatch(message: str, field: str) -> InvalidRequest:
    return InvalidRequest(message, reason="DIGEST_MISMATCH", field=f"config.recording.{field}")


def write_all(file: io.RawIOBase, data: bytes) -> None:
    """Writes all of ``data`` to an unbuffered file. Raises ``Overloaded`` if the disk becomes full."""
    with disk_space():
        disk.write_all(file, data)


def disk_space() -> AbstractContextManager[None]:
    """Returns a context that raises ``Overloaded`` if the disk becomes full in it."""
    return disk.disk_space(store_full)


def store_full() -> Overloaded:
    """Returns the error for a full disk."""
    return Overloaded(
        "the gateway's store has no space left for the recording; try again later",
        reason="STORE_FULL",
        retry_after_seconds=_STORE_FULL_RETRY_SECONDS,
    )
