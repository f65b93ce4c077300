"""Reads a recording: once to hash it, and again to upload it if the gateway needs it.

Holds at most one chunk in memory. All methods block: the asyncio client calls them in threads.
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

from careca.errors import InvalidRecording
from careca.names import is_nameable
from careca.types import Digest

CHUNK_BYTES = 1 << 20
"""Size of the chunks that are read, hashed and sent. This size is the fastest on one gRPC stream."""

MAX_NAME_CHARACTERS = 255
"""Longest display name that the gateway accepts."""

Source: TypeAlias = str | os.PathLike[str] | IO[bytes] | bytes | bytearray | memoryview
"""A path, a binary file object (read from its current position), or the bytes."""


class Identity(NamedTuple):
    """The state of a file at one moment. Every write to the file changes it."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    status_changed_ns: int

    @property
    def changed_ns(self) -> int:
        """The later of the two times of change."""
        return max(self.modified_ns, self.status_changed_ns)


class Recording:
    """One open recording. Use ``open_recording`` to open it and ``with`` to close it.

    The same open file is hashed and uploaded. If another file takes its name meanwhile, the hashed one is still sent.
    """

    def __init__(self, file: IO[bytes], name: str, *, close: bool) -> None:
        self.name = name
        """The display name, at most 255 characters."""
        self._file = file
        self._close = close
        self._reading = threading.Lock()
        self._start = file.tell()
        self.total_bytes = file.seek(0, io.SEEK_END) - self._start
        """Size when it was opened."""
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
        """Closes the file, unless the caller opened it."""
        if self._close:
            self._file.close()

    @property
    def digest(self) -> Digest:
        """SHA-256 and size of the bytes. Known when ``hash`` has ended, or when a cache has set it."""
        if self._digest is None:
            raise RuntimeError("the recording has not been hashed yet")
        return self._digest

    @digest.setter
    def digest(self, digest: Digest) -> None:
        self._digest = digest

    def identity(self) -> Identity | None:
        """Returns the state of the file now, or ``None`` if this is not a whole file on disk."""
        status = self._status()
        if status is None or self._start or not stat.S_ISREG(status.st_mode):
            return None
        return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    def hash(self) -> Iterator[int]:
        """Computes the digest in steps: yields the number of bytes hashed so far after each chunk.

        Raises ``InvalidRecording`` (``RECORDING_CHANGED``) if there are not as many bytes as when it was opened.
        """
        sha256, size = hashlib.sha256(), 0
        while chunk := self._read(size, CHUNK_BYTES):
            sha256.update(chunk)
            size += len(chunk)
            yield size
        if size != self.total_bytes:
            raise changed_error(self.name)
        self._digest = Digest(sha256.hexdigest(), size)

    def chunks(self) -> Iterator[bytes]:
        """Yields the bytes that were hashed, from the start, for the upload.

        Raises ``InvalidRecording`` (``RECORDING_CHANGED``) before the last chunk if the file has changed since it was
        opened.
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
        """Returns bytes from ``position`` on. Has a lock because a failed upload may still read beside the next one."""
        with self._reading:
            self._file.seek(self._start + position)
            return self._file.read(size)

    def _raise_if_changed(self, *, truncated: bool = False) -> None:
        if truncated or self._current_stamp() != self._stamp:
            raise changed_error(self.name)

    def _current_stamp(self) -> tuple[int, int] | None:
        """Returns size and time of the last write, or ``None`` if the file is not on disk."""
        status = self._status()
        return None if status is None else (status.st_size, status.st_mtime_ns)

    def _status(self) -> os.stat_result | None:
        """Returns the status of the file, or ``None`` for an object in memory, which has no descriptor.

        Raises ``OSError`` if the disk is full: a ``SpooledTemporaryFile`` goes to disk to have one.
        """
        try:
            return os.fstat(self._file.fileno())
        except AttributeError:
            return None
        except OSError as error:
            if error.errno is None:
                return None
            raise


def changed_error(name: str) -> InvalidRecording:
    """The error of a recording that has changed since it was hashed."""
    return InvalidRecording(
        f"{name} changed while it was being sent: wait until it is completely written, then try again",
        reason="RECORDING_CHANGED",
    )


def open_recording(source: Source, display_name: str | None = None) -> Recording:
    """Opens ``source``. Copies it to a temporary file if it cannot be read twice, as a pipe cannot.

    Raises ``OSError`` if a path cannot be opened, ``InvalidRecording`` if there are no bytes, ``TypeError`` if
    ``source`` is a text file.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return Recording(io.BytesIO(source), display_name or "recording", close=True)
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return _from_file(path.open("rb"), display_name or displayable(path.name), close=True)
    if isinstance(source, io.TextIOBase):
        raise TypeError("the recording is a text file object: open it in binary mode ('rb')")
    return _from_file(source, display_name or _name_of(source), close=False)


def spool(file: IO[bytes]) -> IO[bytes]:
    """Copies the rest of ``file`` to a temporary file without a name, and returns that at its start."""
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
    """The name of a file object. Objects that have a number or nothing as their name get a default one."""
    name = getattr(file, "name", None)
    return displayable(Path(name).name) if isinstance(name, str) else "recording"


def displayable(name: str) -> str:
    """Returns ``name`` as the gateway accepts it: file names may be long, and have line breaks and invalid Unicode."""
    return "".join(each if is_nameable(each) else "?" for each in name)[:MAX_NAME_CHARACTERS]
