"""Several things at once under one interrupt."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
Item = TypeVar("Item")

Turn = Callable[[], Awaitable[None]]
"""Waits until the work on everything before has ended."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` gives. Raises ``KeyboardInterrupt`` where it was interrupted, once it has ended."""
    try:
        return asyncio.run(_interruptible(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def for_each(items: Iterable[Item], work: Callable[[Item, Turn], Coroutine[Any, Any, T]]) -> list[T]:
    """What ``work`` gives for each item, in their order, all worked on at once. The first error ends all."""
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

    asyncio's own handler does not wake its loop where another thread gets the signal, as one of gRPC's may.
    """
    task = asyncio.current_task()
    with suppress(NotImplementedError, RuntimeError):  # not on Windows, and not outside the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: task and task.cancel())
    return await work
