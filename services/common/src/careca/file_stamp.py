"""Noticing that a file was replaced, for little: Kubernetes swaps mounted secrets by a link."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

FileStamp: TypeAlias = tuple[int, int, int]
"""Differs where a file was replaced or written."""

MISSING: FileStamp = (0, 0, 0)


def stamp_of(path: Path) -> FileStamp:
    """The file's stamp now; ``MISSING`` where there is none or it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return MISSING
    return status.st_ino, status.st_size, status.st_mtime_ns
