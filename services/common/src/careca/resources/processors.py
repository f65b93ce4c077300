"""The processors that this process may use, and how its threads share them with others."""

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


def wait_without_spinning() -> None:
    """Lets OpenMP threads that wait for each other sleep, not spin. To be called before a model library loads.

    Spinning gains little where a process has its processors to itself, and takes them away from the others where it has
    not: two models on the same few processors then run many times slower. ``OMP_WAIT_POLICY`` in the environment, where
    it is set, is left as it is.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _share(cpu_max: Path) -> float | None:
    """Processors' worth of time in the file, or ``None`` where there is no limit."""
    try:
        quota, period = cpu_max.read_text().split()
    except (OSError, ValueError):  # another kernel, or no container: no limit
        return None
    return None if quota == "max" else int(quota) / int(period)
