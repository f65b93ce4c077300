"""What the services log as a warning or worse: each event must be expected by its name."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from bench.fuzz.services import CORE_LINE
from bench.soak.disturbances import (
    ALWAYS,
    CACHE_REDIS,
    DISK,
    JOBS_REDIS,
    RESTART,
    Disturbances,
)

READ_SECONDS = 1.0

_BAD = ("warning", "error", "critical")

EXPECTED: Mapping[str, frozenset[str]] = {
    "Redis does not answer": frozenset({CACHE_REDIS}),
    "the jobs' Redis does not answer": frozenset({JOBS_REDIS}),
    "notifications about jobs are interrupted": frozenset({JOBS_REDIS}),
    "a call is worked on without a job": frozenset({JOBS_REDIS}),
    "a step in the background failed": frozenset({JOBS_REDIS}),
    "the end of a job cannot be reported yet": frozenset({JOBS_REDIS}),
    "the store could not be swept": frozenset({JOBS_REDIS}),
    # Operators clear the caches, and locks with them.
    "lost the lock of a computation; another replica may compute it too": frozenset({ALWAYS}),
    "a job waits for what it needs": frozenset({ALWAYS}),
    # A caller who leaves while Redis is away leaves a job behind, which is found by its lease.
    "a call's job could not be cancelled": frozenset({JOBS_REDIS}),
    "a job was left by its worker": frozenset({RESTART, JOBS_REDIS}),
    # A caller got an answer while the web service stopped, and keeps the connection without reading its end.
    "Cancel 0 running task(s), timeout graceful shutdown exceeded": frozenset({RESTART}),
    "the disk is full": frozenset({DISK}),
    "optional work on the store failed": frozenset({DISK}),
}
"""The events that may be logged, and what must have happened a moment before."""


class Logs:
    """Reads the logs of all services while they are written."""

    def __init__(self, folder: Path, disturbances: Disturbances) -> None:
        self._folder = folder
        self._disturbances = disturbances
        self._read: dict[Path, int] = {}
        self.expected: Counter[tuple[str, str]] = Counter()
        """Expected events, by service and name."""
        self.faults: list[str] = []

    async def read_repeatedly(self) -> None:
        """Reads until it is cancelled."""
        while True:
            await asyncio.sleep(READ_SECONDS)
            self.read()

    def read(self) -> None:
        """Reads all new whole lines."""
        for path in self._folder.glob("*.log"):
            if path.stem.endswith("redis"):
                continue
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                lines = file.read().splitlines(keepends=True)
            for line in lines:
                if line.endswith(b"\n"):
                    self._read[path] = self._read.get(path, 0) + len(line)
                    self._take(path.stem, line.decode(errors="replace").rstrip("\n"))

    def _take(self, service: str, line: str) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            if not CORE_LINE.match(line):
                self.faults.append(f"{service} wrote a line that is not JSON: {line[:300]}")
            return
        if entry.get("level") not in _BAD and "exception" not in entry:
            return
        event, now = str(entry.get("event")), time.monotonic()
        # The clocks of services step, so the moment is that of the reading.
        if self._disturbances.explain(EXPECTED.get(event, frozenset()), now - READ_SECONDS, now):
            self.expected[service, event] += 1
        else:
            self.faults.append(f"{service} logged: {line[:1500]}")
