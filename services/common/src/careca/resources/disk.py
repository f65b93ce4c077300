"""A disk that becomes full while something is written."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from careca.errors import CarecaError, Overloaded

_FULL = (errno.ENOSPC, errno.EDQUOT)
_RETRY_SECONDS = 10.0


def is_full(error: BaseException) -> bool:
    """Returns whether an error says that a disk is full, or that a quota is used up."""
    return isinstance(error, OSError) and error.errno in _FULL


def disk_full() -> Overloaded:
    """Returns the error for callers: another replica may have space, or this one later."""
    return Overloaded(
        "the disk of the service is full: try again later", reason="DISK_FULL", retry_after_seconds=_RETRY_SECONDS
    )


@contextmanager
def disk_space(full: Callable[[], CarecaError] = disk_full) -> Iterator[None]:
    """Raises the error that ``full`` returns if a disk becomes full in this context."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise full() from error
        raise


def write_all(file: io.RawIOBase, data: bytes) -> None:
    """Writes all of ``data`` to an unbuffered file. A buffer would fail again when it is closed. Raises ``OSError``."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
