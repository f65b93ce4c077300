"""What is said about a test that hangs."""

import asyncio
import re
from collections.abc import AsyncIterator

from support.hangs import waiting_tasks
from support.waiting import settle


async def _wait_inside(event: asyncio.Event) -> AsyncIterator[None]:
    await event.wait()
    yield


async def _wait(event: asyncio.Event) -> None:
    async for _ in _wait_inside(event):
        pass


async def test_it_says_where_tasks_wait() -> None:
    event = asyncio.Event()
    task = asyncio.create_task(_wait(event))
    await settle()

    waiting = waiting_tasks()
    event.set()
    await task

    assert re.search(r"test_hangs\.py:\d+ _wait_inside awaits <coroutine object Event.wait", waiting)
    assert re.search(r"test_hangs\.py:\d+ _wait awaits", waiting)
