"""Converts a coroutine that emits events by a callback to an asynchronous generator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

E = TypeVar("E")
R = TypeVar("R")


async def stream_events(work: Callable[[Callable[[E], None]], Coroutine[Any, Any, R]]) -> AsyncGenerator[E | R, None]:
    """Runs ``work`` in a task. Yields the events that it emits, and lastly what it returns.

    Closing the generator or cancelling its consumer cancels the task and waits for its end. Raises what ``work``
    raises.
    """
    emitted: asyncio.Queue[E | None] = asyncio.Queue()
    task = asyncio.create_task(work(emitted.put_nowait))
    task.add_done_callback(lambda _: emitted.put_nowait(None))
    try:
        while (event := await emitted.get()) is not None:
            yield event
        yield task.result()
    finally:
        task.cancel()
        await asyncio.wait((task,))
