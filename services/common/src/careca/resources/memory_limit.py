"""The memory limit of this process and its children."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import psutil

CONTAINER_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Files with the memory limit of a container's control group: version 2, version 1."""


def memory_limit(files: Iterable[Path] = CONTAINER_LIMITS) -> int:
    """Returns the limit of the container in bytes, or the memory of the machine if that is less."""
    limits = [int(text) for text in map(_text, files) if text.isdecimal()]  # "max" means no limit
    return min([*limits, int(psutil.virtual_memory().total)])


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:  # another version of control groups, or none
        return ""
