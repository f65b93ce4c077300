"""Cancels tasks for certain: gRPC's asyncio and redis-py may swallow a cancellation that comes as a call ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

_CANCEL_AGAIN_SECONDS = 0.5

V = TypeVar("V")


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancels ``tasks`` and returns when all of them have ended. Cancels again after a while."""
    pending = {task for task in tasks if task and not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_SECONDS)


async def interruptible(call: Awaitable[V]) -> V:
    """Awaits ``call`` so that a cancellation is never lost.

    Otherwise a task of a ``TaskGroup`` may go on after the group has cancelled it, and the group never ends.
    """
    task = asyncio.ensure_future(call)
    try:
        await asyncio.wait((task,))
    except asyncio.CancelledError:
        await cancel_and_wait((task,))
        if not task.cancelled():
            task.exception()  # nobody asks for it any more
        raise
    return task.result()
