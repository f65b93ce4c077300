"""An open loop: requests come when they come, however busy the service is, and what became of each.

Whoever asks again only when the last answer is there measures a service that is never overloaded, and leaves out the
waiting of those who would have come meanwhile. So requests come at random moments that are set beforehand (a Poisson
process), each is a task of its own, and its latency counts from the moment that was set.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.common.tables import seconds
from careca.errors import CarecaError, Overloaded


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    at: float
    """When it was to come, on the clock of ``time.monotonic``."""
    seconds: float
    """How long from then to its answer."""
    error: CarecaError | None = None

    @property
    def ended(self) -> float:
        """When its answer was there."""
        return self.at + self.seconds

    @property
    def refused(self) -> bool:
        """Whether it was told to come back later."""
        return isinstance(self.error, Overloaded)

    @property
    def failed(self) -> bool:
        """Whether it has no result for another reason."""
        return self.error is not None and not self.refused


Ask = Callable[[int], Awaitable[None]]
"""Makes the request of that number. Raises ``CarecaError`` where there is no whole result."""


def arrivals(rate: float, duration: float, seed: int) -> list[float]:
    """When requests come in ``duration`` seconds: the same for the same seed.

    A Poisson process of which it is known that as many come as ``rate`` says. So the load is what it is said to be,
    while of a hundred requests chance alone would often make it a tenth more or less.
    """
    chance = random.Random(seed)
    return sorted(chance.uniform(0.0, duration) for _ in range(round(rate * duration)))


async def open_loop(ask: Ask, times: Iterable[float]) -> list[Asked]:
    """Asks at ``times``, in seconds from now, and returns when all have their answers."""
    begin = time.monotonic()
    asked = []
    for number, when in enumerate(times):
        await asyncio.sleep(begin + when - time.monotonic())
        asked.append(asyncio.create_task(ask_once(ask, number, begin + when)))
    return list(await asyncio.gather(*asked))


async def open_loop_while(changing: asyncio.Task[None], ask: Ask, rate: float, seed: int) -> list[Asked]:
    """Asks ``rate`` times a second, at random moments, until ``changing`` is done. Returns when all have their answers.

    Raises what ``changing`` raises.
    """
    chance = random.Random(seed)
    asked: list[asyncio.Task[Asked]] = []
    when = time.monotonic()
    while True:
        when += chance.expovariate(rate)
        await asyncio.wait([changing], timeout=max(0.0, when - time.monotonic()))
        if changing.done():
            break
        asked.append(asyncio.create_task(ask_once(ask, len(asked), when)))
    answers = list(await asyncio.gather(*asked))
    await changing
    return answers


async def closed_loop(ask: Ask, callers: int, duration: float) -> list[Asked]:
    """So many callers ask again and again for ``duration`` seconds."""
    return await closed_loop_while(asyncio.create_task(asyncio.sleep(duration)), ask, callers)


async def closed_loop_while(changing: asyncio.Task[None], ask: Ask, callers: int) -> list[Asked]:
    """So many callers ask again and again until ``changing`` is done. Raises what it raises."""
    numbers = itertools.count(1)

    async def call() -> list[Asked]:
        asked = []
        while not changing.done():
            asked.append(await ask_once(ask, next(numbers), time.monotonic()))
        return asked

    answers = await asyncio.gather(*(call() for _ in range(callers)))
    await changing
    return [each for several in answers for each in several]


async def ask_once(ask: Ask, number: int, at: float) -> Asked:
    """Makes the request that was to come at that moment, and says what became of it."""
    error = None
    try:
        await ask(number)
    except CarecaError as raised:
        error = raised
    return Asked(at, time.monotonic() - at, error)


def percentile(values: Sequence[float], fraction: float) -> float | None:
    """The least value that so many of ``values`` are not above, ``None`` without values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]


def answered(asked: Iterable[Asked]) -> list[Asked]:
    """Those with a result."""
    return [each for each in asked if each.error is None]


def goodput(asked: Iterable[Asked], begin: float, end: float) -> float:
    """Results in a second between two moments."""
    return sum(begin <= each.ended < end for each in answered(asked)) / (end - begin)


def latencies(asked: Iterable[Asked]) -> list[str]:
    """p50, p95 and p99 of those with a result, as cells."""
    values = [each.seconds for each in answered(asked)]
    return [seconds(percentile(values, fraction)) for fraction in (0.50, 0.95, 0.99)]
