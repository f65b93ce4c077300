"""Streams of events that end early when something else ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, Never, TypeVar

from careca.cancellation import cancel_and_wait
from careca.errors import Unavailable

T = TypeVar("T")


async def run_beside(events: AsyncGenerator[T, None], *beside: Coroutine[Any, Any, None]) -> AsyncGenerator[T, None]:
    """Yields ``events`` to their end, and runs other work beside them until then.

    Raises what ``events`` and the other work raise. An event that comes at the same time as such an error is lost.
    """
    others = {asyncio.create_task(each) for each in beside}
    following: asyncio.Task[T | None] | None = None
    try:
        while True:
            following = following or asyncio.create_task(anext(events, None))
            done, _ = await asyncio.wait((following, *others), return_when=asyncio.FIRST_COMPLETED)
            for task in done & others:
                task.result()
            others -= done
            if following.done():
                event, following = following.result(), None
                if event is None:
                    return
                yield event
    finally:
        tasks: list[asyncio.Task[Any]] = [*others, following] if following else [*others]
        await cancel_and_wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # the stream has ended with another one


async def raise_when_stopping(stopping: asyncio.Event) -> Never:
    """Raises ``Unavailable`` when ``stopping`` is set."""
    await stopping.wait()
    raise Unavailable("the gateway is about to stop: continue with another gateway", retry_after_seconds=0.5)
