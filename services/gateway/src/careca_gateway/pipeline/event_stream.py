"""Turns work that tells of its course by calling back into a stream of what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

E = TypeVar("E")
R = TypeVar("R")


async def stream_events(work: Callable[[Callable[[E], None]], Coroutine[Any, Any, R]]) -> AsyncGenerator[E | R, None]:
    """Runs ``work`` in a task and yields what it tells as it tells it, lastly what it returns.

    Closing the generator or cancelling its consumer cancels the task and waits for its end. Raises what ``work``
    raises.
    """
    told: asyncio.Queue[E | None] = asyncio.Queue()
    task = asyncio.create_task(work(told.put_nowait))
    task.add_done_callback(lambda _: told.put_nowait(None))
    try:
        while (event := await told.get()) is not None:
            yield event
        yield task.result()
    finally:
        task.cancel()
        await asyncio.wait((task,))
