"""Several recordings or jobs at once, under one interrupt."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
Item = TypeVar("Item")

Turn = Callable[[], Awaitable[None]]
"""Waits until the work on all earlier items has ended."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Returns the result of ``work``. Raises ``KeyboardInterrupt`` if it was interrupted, after it has ended."""
    try:
        return asyncio.run(_interruptible(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def for_each(items: Iterable[Item], work: Callable[[Item, Turn], Coroutine[Any, Any, T]]) -> list[T]:
    """Works on all items at once and returns the results in the order of the items. The first error ends all work."""
    tasks: list[asyncio.Task[T]] = []
    for item in items:
        tasks.append(asyncio.create_task(work(item, _turn_after(tasks[-1] if tasks else None))))
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _turn_after(previous: asyncio.Task[Any] | None) -> Turn:
    async def wait() -> None:
        if previous is not None:
            await asyncio.wait([previous])

    return wait


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Cancels the work at an interrupt.

    asyncio's own handler does not wake the event loop if another thread, such as one of gRPC's, receives the signal.
    """
    task = asyncio.current_task()
    with suppress(NotImplementedError, RuntimeError):  # on Windows, and outside the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: task and task.cancel())
    return await work
