"""Turns work that tells of its course by calling back into a stream of what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

E = TypeVar("E")
R = TypeVar("R")


async def telling(work: Callable[[Callable[[E], None]], Awaitable[R]]) -> AsyncGenerator[E | R, None]:
    """Runs ``work`` in a task and yields what it tells as it tells it, lastly what it returns.

    Closing the generator or cancelling its consumer cancels the task and waits for its end. Raises what ``work``
    raises.
    """
    told: asyncio.Queue[E] = asyncio.Queue()
    task = asyncio.ensure_future(work(told.put_nowait))
    next_told: asyncio.Task[E] | None = None
    try:
        while not task.done():
            next_told = asyncio.create_task(told.get())
            await asyncio.wait((task, next_told), return_when=asyncio.FIRST_COMPLETED)
            if next_told.done():
                yield next_told.result()
        ...
    finally:
        ...
