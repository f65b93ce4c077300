"""Processes of a stack that are ended at random and started again."""

from __future__ import annotations

import asyncio
import random
import signal

from bench.common.fleet import Fleet
from local_stack import Part


class Chaos:
    """Ends each part of a stack so many times, each by itself at random moments, and starts it again."""

    def __init__(self, stack: Fleet, how: signal.Signals, ends: int, chance: random.Random) -> None:
        self._stack = stack
        self._how = how
        self._ends = ends
        self._chance = chance
        self._parts = stack.parts()
        self.ends = 0
        """Processes ended so far."""

    @property
    def progress(self) -> float:
        """Fraction of the ends that are done."""
        return self.ends / (self._ends * len(self._parts))

    async def run(self) -> None:
        """Returns when all parts were ended as often as they should be, and are ready."""
        await asyncio.gather(*(self._torment(part) for part in self._parts))

    async def _torment(self, part: Part) -> None:
        for _ in range(self._ends):
            await asyncio.sleep(self._chance.uniform(0.5, 4.0))
            await asyncio.to_thread(self._stack.end_part, part.name, self._how)
            await asyncio.sleep(self._chance.uniform(0.0, 1.0))
            self._stack.start_part(part)
            await asyncio.to_thread(self._stack.wait_until_ready, part)
            self.ends += 1
