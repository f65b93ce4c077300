"""A lock between processes that write to the same folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Holds the lock that this file stands for; waits while another process has it. It ends with its process."""
    # Imported late: not every system has it, and reading models does not need it.
    import fcntl

    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
