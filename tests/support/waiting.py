"""How tests wait: for what has to happen, never for a time in which it should have happened.

A busy machine is no fault. Every limit here is one that only a hang reaches, and where a deadline has to pass while
something goes on, it is tried with longer and longer ones until it does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator

HANG_SECONDS = 240.0
"""What takes longer than this has stopped, however busy the machine is. Far below pytest's own limit for a test."""


async def until(condition: Callable[[], object]) -> None:
    """Returns once ``condition`` holds, which other tasks, threads or processes bring about."""
    async with asyncio.timeout(HANG_SECONDS):
        while not condition():  # noqa: ASYNC110 -- nothing tells of it
            await asyncio.sleep(0.005)


async def eventually(condition: Callable[[], Awaitable[object]]) -> None:
    """As ``until``, where it takes a question to somebody else to know.

    It asks less and less often, because each question takes the processor from what it waits for.
    """
    pause = 0.005
    async with asyncio.timeout(HANG_SECONDS):
        while not await condition():
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, 0.05)


async def happens(event: threading.Event) -> None:
    """Returns once a thread has set ``event``."""
    assert await asyncio.to_thread(event.wait, HANG_SECONDS), "it did not happen"


async def settle() -> None:
    """Lets all tasks run until each waits for something else."""
    for _ in range(20):
        await asyncio.sleep(0)


def longer_and_longer(seconds: float) -> Iterator[float]:
    """Times to wait, each four times the one before it: a quiet machine needs the first, a busy one a later one."""
    while seconds < HANG_SECONDS:
        yield seconds
        seconds *= 4
    raise AssertionError("not even the longest time was enough")


class Clock:
    """A clock that a test moves: what asks it for the time, as ``time.monotonic`` or as a function, sees that alone."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        """As the module ``time``, in whose place it can stand."""
        return self.seconds
