"""Ends tasks that run in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_SECONDS = 0.5


async def end(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancels ``tasks`` and returns when all have ended, however they do.

    One cancellation may be lost: redis-py 8.1 was seen to go on after it.
    """
    rest = {task for task in tasks if task and not task.done()}
    while rest:
        for task in rest:
            task.cancel()
        _, rest = await asyncio.wait(rest, timeout=_AGAIN_SECONDS)
