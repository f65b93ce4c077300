"""Work that comes at random moments, all kinds at once, and what became of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.load.arrivals import arrivals
from bench.soak.callers import CONNECTION, PATIENCE_SECONDS, WrongAnswerError
from bench.soak.calls import Calls
from bench.soak.disturbances import (
    ALWAYS,
    CACHE_REDIS,
    CLOCK,
    DISK,
    JOBS_REDIS,
    RESTART,
    Disturbances,
)
from bench.soak.requests import Requests
from bench.soak.stack import SoakStack
from careca.errors import CarecaError

EXPECTED: Mapping[str, frozenset[str]] = {
    # More work than there is capacity.
    "OVERLOADED": frozenset({ALWAYS}),
    "RATE_LIMIT_EXCEEDED": frozenset({ALWAYS}),
    "TOO_MANY_SESSIONS": frozenset({ALWAYS}),
    # The small store has removed what nobody used for a while.
    "RECORDING_GONE": frozenset({ALWAYS}),
    # Sessions of browsers and unfinished uploads end by the time of day. They last 30 s, and clocks step further.
    "NO_TOKEN": frozenset({CLOCK}),
    "UPLOAD_NOT_FOUND": frozenset({CLOCK}),
    "UNAVAILABLE": frozenset({RESTART}),
    "JOBS_UNAVAILABLE": frozenset({JOBS_REDIS}),
    "CACHE_UNAVAILABLE": frozenset({CACHE_REDIS}),
    "GATEWAY_UNREACHABLE": frozenset({RESTART}),
    CONNECTION: frozenset({RESTART}),
    "STORE_FULL": frozenset({DISK}),
    "STORE_UNREACHABLE": frozenset({DISK}),
    "DISK_FULL": frozenset({DISK}),
}
"""Reasons of errors that callers may get, and what must have happened meanwhile."""

SHARES: Mapping[str, int] = {
    "call": 20,
    "call_again": 8,
    "cancelled_call": 6,
    "job": 16,
    "upload_then_job": 6,
    "cancelled_job": 5,
    "corrected_job": 3,
    "live_session": 3,
    "abandoned_session": 2,
    "bad_input": 7,
    "operator": 2,
    "openai": 8,
    "resumed_upload": 4,
    "abandoned_upload": 2,
    "browser": 4,
    "cancelled_http": 4,
}
"""The kinds of work, and how many of a hundred pieces are of each kind."""

TASKS = 0.8
"""Tasks for each model service in a piece of work, on average: known, bad and cancelled ones make fewer."""


@dataclass
class Tally:
    """What became of one kind of work."""

    asked: int = 0
    done: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """Expected errors, by their reasons."""
    seconds: list[float] = field(default_factory=list)
    """How long those took that were done."""


class Work(Calls, Requests):
    """All kinds of work with one stack."""

    def __init__(self, stack: SoakStack, disturbances: Disturbances, folder: Path, seed: int) -> None:
        super().__init__(stack, folder, seed)
        self._disturbances = disturbances
        self.tallies = {kind: Tally() for kind in SHARES}
        self.faults: list[str] = []

    async def run(self, rates: Sequence[float], part_seconds: float) -> None:
        """Works for as many parts as there are ``rates``, in pieces per second. Returns when all have ended."""
        kinds, shares = list(SHARES), list(SHARES.values())
        async with asyncio.TaskGroup() as tasks:
            for rate in rates:
                began = time.monotonic()
                for moment in arrivals(rate, part_seconds, self.chance.getrandbits(32)):
                    await asyncio.sleep(began + moment - time.monotonic())
                    tasks.create_task(self._do(self.chance.choices(kinds, shares)[0]))
                await asyncio.sleep(began + part_seconds - time.monotonic())

    async def _do(self, kind: str) -> None:
        """Does one piece of work, and takes down what became of it."""
        work: Callable[[], Awaitable[None]] = getattr(self, kind)
        tally, began = self.tallies[kind], time.monotonic()
        tally.asked += 1
        try:
            async with asyncio.timeout(2 * PATIENCE_SECONDS), self.losing_nothing():
                await work()
        except CarecaError as error:
            causes = EXPECTED.get(error.reason, frozenset())
            if self._disturbances.explain(causes, began, time.monotonic()):
                tally.errors[error.reason] += 1
            else:
                self.faults.append(f"{kind}: {error.status} {error.reason}: {error.message}")
        except WrongAnswerError as wrong:
            self.faults.append(f"{kind}: {wrong}")
        except TimeoutError:
            self.faults.append(f"{kind}: nothing came of it within {2 * PATIENCE_SECONDS:.0f} s")
        else:
            tally.done += 1
            tally.seconds.append(time.monotonic() - began)
