"""How the tasks of a session wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


class Changes:
    """Wakes all tasks that wait for a change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wakes all tasks that wait now."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self) -> None:
        """Waits for the next change."""
        await self._event.wait()


async def run_to_end(work: Coroutine[None, None, None]) -> None:
    """Runs work to its end even if the caller is cancelled: what is on disk and what is in memory must agree."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
