"""Background tasks: repeating a step, retrying until a shared service answers, and ending tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from careca.errors import CarecaError, Overloaded, Unavailable
from careca.telemetry.logs import get_logger

RETRY_SECONDS = 0.5
"""The default pause after a step that failed."""

_CANCEL_AGAIN_SECONDS = 0.5

_log = get_logger(__name__)

V = TypeVar("V")


def repeat(
    name: str,
    step: Callable[[], Awaitable[None]],
    *,
    pause_seconds: float = 0.0,
    retry_seconds: float = RETRY_SECONDS,
) -> asyncio.Task[None]:
    """Starts a task that runs ``step`` forever, with a pause after each run.

    A step that fails is logged and run again: a ``CarecaError`` as a warning, any other exception as an error.
    """
    return asyncio.create_task(_repeat(name, step, pause_seconds, retry_seconds), name=name)


async def retry_until_reachable(
    call: Callable[[], Awaitable[V]], warning: str, *, give_up: Callable[[], bool] = lambda: False
) -> V | None:
    """Repeats ``call`` while it raises ``Unavailable`` or ``Overloaded``, and logs ``warning`` each time.

    Returns what ``call`` returns, or ``None`` as soon as ``give_up`` says so.
    """
    while not give_up():
        try:
            return await call()
        except (Unavailable, Overloaded) as error:
            _log.warning(warning, reason=error.reason, error=error.message)
            await asyncio.sleep(RETRY_SECONDS)
    return None


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancels ``tasks`` and returns when all of them have ended.

    Cancels again after a while, because one cancellation may get lost: redis-py 8.1 was seen to swallow one.
    """
    pending = {task for task in tasks if task and not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_SECONDS)


async def interruptible(call: Awaitable[V]) -> V:
    """Awaits ``call`` so that a cancellation is never lost.

    gRPC and redis-py were seen to swallow one that comes as a call ends. A task in a ``TaskGroup`` would go on then,
    and the group would never end.
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


async def _repeat(name: str, step: Callable[[], Awaitable[None]], pause_seconds: float, retry_seconds: float) -> None:
    while True:
        try:
            await step()
            await asyncio.sleep(pause_seconds)
        except CarecaError as error:
            _log.warning("a step in the background failed", task=name, reason=error.reason, error=error.message)
            await asyncio.sleep(retry_seconds)
        except Exception as error:  # noqa: BLE001 - an unexpected error must not end the background task
            _log.exception("a fault in the background", task=name, exc_info=error)
            await asyncio.sleep(retry_seconds)
