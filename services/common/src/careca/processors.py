"""How many processors this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""Where the kernel says which share of the processors a container may use (control groups, version 2)."""


def usable_processors(cpu_max: Path = CPU_MAX) -> int:
    """Processors that this process may use, at least 1: those it may run on, or fewer where a container has a share.

    A container on a large machine sees all processors. With a thread for each of them it would use its share up in an
    instant and then stand still until the next one.
    """
    share = _share(cpu_max)
    allowed = len(os.sched_getaffinity(0))
    return allowed if share is None else max(1, min(allowed, math.ceil(share)))


def _share(cpu_max: Path) -> float | None:
    """Processors' worth of time in the file, or ``None`` where there is no limit."""
    try:
        quota, period = cpu_max.read_text().split()
    except (OSError, ValueError):  # another kernel, or no container: no limit
        return None
    return None if quota == "max" else int(quota) / int(period)
