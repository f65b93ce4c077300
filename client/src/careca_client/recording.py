"""A recording as the client reads it: first hashed, then, only if the gateway asks, read again for upload.

Nothing here holds more than one chunk in memory. All methods block; the asyncio client calls them in threads.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias, cast

from careca.codec import is_nameable
from careca.errors import InvalidRecording
from careca.types import Digest

CHUNK_BYTES = 1 << 20
"""Bytes read, hashed and sent at a time; on one gRPC stream this size is the fastest."""

MAX_NAME_CHARACTERS = 255
"""Longest display name that the gateway takes."""

Source: TypeAlias = str | os.PathLike[str] | IO[bytes] | bytes | bytearray | memoryview
"""A path, a binary file object (read from its position on), or the bytes themselves."""


class Identity(NamedTuple):
    """A file as it is at one moment: what is written to it changes this, and much else does too."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    status_changed_ns: int

    @property
    def changed_ns(self) -> int:
        """The later of both times of change."""
        return max(self.modified_ns, self.status_changed_ns)


class Recording:
    """One open recording. Use ``open_recording`` to make one, ``with`` to close it.

    The same open file is hashed and uploaded, so that a file replaced under its name is still sent as it was hashed.
    """

    def __init__(self, file: IO[bytes], name: str, *, close: bool) -> None:
        self.name = name
        """The name to show, at most 255 characters."""
        self._file = file
        self._close = close
        self._reading = threading.Lock()
        self._start = file.tell()
        self.total_bytes = file.seek(0, io.SEEK_END) - self._start
        """Length found on opening."""
        self._stamp = self._current_stamp()
        self._digest: Digest | None = None
        if self.total_bytes == 0:
            self.close()
            raise InvalidRecording(f"{name} is empty: there is nothing to transcribe", reason="EMPTY_RECORDING")

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file, unless the caller had opened it."""
        if self._close:
            self._file.close()

    @property
    def digest(self) -> Digest:
        """SHA-256 and length of the bytes. Known once ``hash`` is through, or once set by who remembers it."""
        if self._digest is None:
            raise RuntimeError("the recording has not been hashed yet")
        return self._digest

    @digest.setter
    def digest(self, digest: Digest) -> None:
        self._digest = digest

    def identity(self) -> Identity | None:
        """What the file is now, or ``None`` where this is no whole file on disk."""
        status = self._status()
        if status is None or self._start or not stat.S_ISREG(status.st_mode):
            return None
        return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def hash(self) -> Iterator[int]:
        """Finds the digest in steps: yields the bytes done after each chunk."""
        sha256, size = hashlib.sha256(), 0
        while chunk := self._read(size, CHUNK_BYTES):
            sha256.update(chunk)
            size += len(chunk)
            yield size
        self._digest = Digest(sha256.hexdigest(), size)

    def chunks(self) -> Iterator[bytes]:
        """The bytes that were hashed once more, from the first, for upload.

        Raises ``InvalidRecording`` (``RECORDING_CHANGED``) instead of giving the last chunk of a file that was written
        to since it was opened.
        """
        self._raise_if_changed()
        done, total = 0, self.digest.size_bytes
        while done < total:
            chunk = self._read(done, min(CHUNK_BYTES, total - done))
            done += len(chunk)
            if done == total or not chunk:
                self._raise_if_changed(truncated=done < total)
            yield chunk

    def _read(self, position: int, size: int) -> bytes:
        """Bytes from ``position`` on. An upload that was given up may still be reading while the next one begins."""
        with self._reading:
            self._file.seek(self._start + position)
            return self._file.read(size)

    def _raise_if_changed(self, *, truncated: bool = False) -> None:
        if truncated or self._current_stamp() != self._stamp:
            raise changed(self.name)

    def _current_stamp(self) -> tuple[int, int] | None:
        """Size and time of the last write, or ``None`` for a file that is not on disk."""
        status = self._status()
        return None if status is None else (status.st_size, status.st_mtime_ns)

    def _status(self) -> os.stat_result | None:
        try:
            return os.fstat(self._file.fileno())
        except (OSError, AttributeError):  # an object in memory, without a descriptor
            return None


def changed(name: str) -> InvalidRecording:
    """The error of a recording that is not what it was when it was hashed."""
    return InvalidRecording(
        f"{name} changed while it was being sent: wait until it is completely written, then try again",
        reason="RECORDING_CHANGED",
    )


def open_recording(source: Source, display_name: str | None = None) -> Recording:
    """Opens ``source``; what cannot be read twice, such as a pipe, is spooled to a temporary file first.

    Raises ``OSError`` where a path cannot be opened, ``InvalidRecording`` where there are no bytes, ``TypeError`` where
    ``source`` is a text file.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return Recording(io.BytesIO(source), display_name or "recording", close=True)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return _from_file(path.open("rb"), display_name or _showable(path.name), close=True)
    if isinstance(source, io.TextIOBase):
        raise TypeError("the recording is a text file object: open it in binary mode ('rb')")
    return _from_file(source, display_name or _name_of(source), close=False)


def spool(file: IO[bytes]) -> IO[bytes]:
    """A temporary file, unlinked already, with all that ``file`` still holds; its position is at its start."""
    spooled = cast("IO[bytes]", tempfile.TemporaryFile(prefix="careca-recording-"))  # noqa: SIM115 -- the caller closes it
    try:
        shutil.copyfileobj(file, spooled, CHUNK_BYTES)
    except BaseException:
        spooled.close()
        raise
    spooled.flush()
    spooled.seek(0)
    return spooled


def _from_file(file: IO[bytes], name: str, *, close: bool) -> Recording:
    if file.seekable():
        return Recording(file, name, close=close)
    try:
        return Recording(spool(file), name, close=True)
    finally:
        if close:
            file.close()


def _name_of(file: IO[bytes]) -> str:
    """The name of the file behind a file object; descriptors and unnamed files have none."""
    name = getattr(file, "name", None)
    return _showable(Path(name).name) if isinstance(name, str) else "recording"


def _showable(name: str) -> str:
    """``name`` as text that is accepted: names of files may have line breaks, and need not be valid Unicode."""
    return "".join(each if is_nameable(each) else "?" for each in name)[:MAX_NAME_CHARACTERS]
