"""How much memory this process and its children may hold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import psutil

CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where the kernel tells a container its limit: its control group, of version 2 or 1."""


def memory_limit(files: Iterable[Path] = CONTAINER_LIMITS) -> int:
    """Bytes of the container's limit, or of the machine's memory where that is less or there is no limit."""
    limits = [int(text) for text in map(_text, files) if text.isdecimal()]  # it is "max" where there is none
    return min([*limits, int(psutil.virtual_memory().total)])


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:  # another version of control groups, or none
        return ""
