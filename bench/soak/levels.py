"""What the stack holds, over time, and whether it grows.

Something that is lost with each request, such as a descriptor or a page of memory, grows in proportion to the work, for
as long as there is work. What fills (pools, caches, the store up to its limits) grows to a level, and work in progress
comes and goes. So the time after the warm-up is divided into ``WINDOWS`` parts, and the level of a part is its lower
quartile: what is held beside the work of the moment. The growth is the slope of Theil and Sen through these levels,
which is the median of the slopes of all pairs, times the length of time. Not the slope itself is judged but the lower
end of its 95 % confidence interval: where levels only vary, it is below 0. And growth below an allowance is none: see
``ALLOWED``.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import redis
from scipy.stats import theilslopes

from bench.soak.stack import SoakStack

WINDOWS = 10

SAMPLE_SECONDS = 2.0

WARM_UP_SECONDS = 960.0
"""Until then, levels may rise: shared recordings stay for 600 s in any case, and the shared store is swept every
300 s."""

ENOUGH_SECONDS = 1200.0
"""The shortest time after the warm-up that is judged: in it the store and the jobs are swept four times."""

ALLOWED: dict[str, tuple[float, float]] = {
    "RSS, MiB": (8.0, 0.08),
    "descriptors": (6.0, 0.1),
    "threads": (3.0, 0.1),
    "children": (1.0, 0.1),
    "files": (20.0, 0.15),
    "MiB on the disk": (4.0, 0.15),
    "keys": (40.0, 0.15),
    "memory, MiB": (1.0, 0.15),
}
"""Growth that says nothing: so much, or this part of the level, whichever is more.

For numbers: work that happened to be in progress. For memory: what allocators keep in reserve. A thousand requests that
each lose one descriptor, key, file or 10 kB exceed each of these.
"""

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Growth:
    """How a level developed after the warm-up."""

    whose: str
    what: str
    first: float
    last: float
    """The levels of the first and of the last window."""
    certain: float
    """The growth that is certain: the lower end of the 95 % confidence interval, never below 0."""

    @property
    def allowed(self) -> float:
        """The growth that says nothing."""
        least, part = ALLOWED[self.what]
        return max(least, part * self.first)

    @property
    def flat(self) -> bool:
        """Whether nothing grows."""
        return self.certain <= self.allowed


def growth_of(whose: str, what: str, times: Sequence[float], values: Sequence[float]) -> Growth:
    """The growth of a quantity that was sampled at ``times``, in seconds. Needs ``WINDOWS`` samples or more."""
    parts = np.array_split(np.arange(len(values)), WINDOWS)
    levels = [float(np.quantile(np.asarray(values)[part], 0.25)) for part in parts]
    middles = [float(np.mean(np.asarray(times)[part])) for part in parts]
    low = theilslopes(levels, middles, 0.95)[2]
    return Growth(whose, what, levels[0], levels[-1], max(0.0, low * (times[-1] - times[0])))


class Levels:
    """Samples everything that may grow."""

    def __init__(self, stack: SoakStack) -> None:
        self._stack = stack
        self._samples: dict[tuple[str, int, str], tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
        """Times and values of a quantity of the part with this name and process id; 0 for what outlives processes."""

    async def sample_repeatedly(self) -> None:
        """Samples until it is cancelled."""
        while True:
            await asyncio.to_thread(self._sample)
            await asyncio.sleep(SAMPLE_SECONDS)

    def growths(self, begin: float, end: float) -> Iterator[Growth]:
        """What grew between two moments of ``time.monotonic``, of all parts that lived so long."""
        for (whose, _, what), (times, values) in sorted(self._samples.items()):
            chosen = [at for at, moment in enumerate(times) if begin <= moment <= end]
            if chosen and times[0] <= begin and times[-1] >= end - 5 * SAMPLE_SECONDS and len(chosen) >= WINDOWS:
                yield growth_of(whose, what, [times[at] for at in chosen], [values[at] for at in chosen])

    def _sample(self) -> None:
        for name, pid in self._stack.pids.items():
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    self._take(name, pid, "RSS, MiB", process.memory_info().rss / _MIB)
                    self._take(name, pid, "threads", process.num_threads())
                self._take(name, pid, "descriptors", process.num_fds())
                self._take(name, pid, "children", len(process.children(recursive=True)))
            except psutil.Error:
                continue  # it was ended just now
        for folder in self._stack.disk.iterdir():
            if folder.is_dir():
                sizes = list(_sizes(folder))
                self._take(folder.name, 0, "files", len(sizes))
                self._take(folder.name, 0, "MiB on the disk", sum(sizes) / _MIB)
        for name, url in (("redis", self._stack.redis_url), ("jobs_redis", self._stack.jobs_redis_url)):
            try:
                with redis.Redis.from_url(url, socket_timeout=5.0) as client:
                    self._take(name, 0, "keys", _lasting_keys(client))
                    self._take(name, 0, "memory, MiB", client.info("memory")["used_memory"] / _MIB)
            except redis.RedisError:
                continue  # it is restarted just now

    def _take(self, whose: str, pid: int, what: str, value: float) -> None:
        times, values = self._samples[whose, pid, what]
        times.append(time.monotonic())
        values.append(float(value))


def _lasting_keys(client: redis.Redis) -> int:
    """The number of keys that do not expire by themselves: an ended live session can be read for an hour."""
    counts = client.info("keyspace").get("db0", {"keys": 0, "expires": 0})
    return int(counts["keys"]) - int(counts["expires"])


def files_in(folder: Path) -> list[Path]:
    """All files in a folder and below. What is removed meanwhile may be among them or not."""
    return [Path(parent) / name for parent, _, names in os.walk(folder) for name in names]


def _sizes(folder: Path) -> Iterator[int]:
    for path in files_in(folder):
        try:
            yield path.stat().st_size
        except FileNotFoundError:
            continue
