"""The processors that this process may use, and how its threads share them with other processes."""

from __future__ import annotations

import math
import os
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""File with the CPU limit of a container's control group, version 2."""


def usable_processors(cpu_max: Path = CPU_MAX) -> int:
    """Returns how many processors this process may use, at least 1: its CPU affinity, or a lower container limit.

    A container on a large machine sees all processors. With one thread for each of them it would use up its share at
    once and then be throttled.
    """
    share = _share(cpu_max)
    allowed = len(os.sched_getaffinity(0))
    return allowed if share is None else max(1, min(allowed, math.ceil(share)))


def disable_openmp_spinning() -> None:
    """Makes waiting OpenMP threads sleep instead of spin. Call it before a model library loads.

    Spinning gains little for a process that has its processors to itself. If processes share processors, spinning takes
    time from the others: two models on the same processors then run many times slower. A value of ``OMP_WAIT_POLICY``
    in the environment is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _share(cpu_max: Path) -> float | None:
    """Returns the limit in the file as a number of processors, ``None`` if there is no limit."""
    try:
        quota, period = cpu_max.read_text().split()
    except (OSError, ValueError):  # another kernel, or no container: no limit
        return None
    return None if quota == "max" else int(quota) / int(period)
