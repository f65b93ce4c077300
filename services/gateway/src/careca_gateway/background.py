"""Tasks that run in the background: steps that are repeated whatever becomes of them, and the end of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from careca.errors import CarecaError
from careca.telemetry.logs import get_logger

RETRY_SECONDS = 0.5
"""How long to wait after a step that failed, where nothing else is said."""

_AGAIN_SECONDS = 0.5

_log = get_logger(__name__)


def repeat(
    name: str,
    step: Callable[[], Awaitable[None]],
    *,
    pause_seconds: float = 0.0,
    retry_seconds: float = RETRY_SECONDS,
) -> asyncio.Task[None]:
    """A task that does ``step`` for ever, pausing in between. A step that fails is logged, and done again.

    One that was foreseen is a warning; any other is a fault, which must not end the work for good.
    """
    return asyncio.create_task(_repeat(name, step, pause_seconds, retry_seconds), name=name)


async def end(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    """Cancels ``tasks`` and returns when all have ended, however they do.

    One cancellation may be lost: redis-py 8.1 was seen to go on after it.
    """
    rest = {task for task in tasks if task and not task.done()}
    while rest:
        for task in rest:
            task.cancel()
        _, rest = await asyncio.wait(rest, timeout=_AGAIN_SECONDS)


async def _repeat(name: str, step: Callable[[], Awaitable[None]], pause_seconds: float, retry_seconds: float) -> None:
    while True:
        try:
            await step()
            await asyncio.sleep(pause_seconds)
        except CarecaError as error:
            _log.warning("a step in the background failed", task=name, reason=error.reason, error=error.message)
            await asyncio.sleep(retry_seconds)
        except Exception as error:  # noqa: BLE001 - a fault must not end the work of this gateway for good
            _log.exception("a fault in the background", task=name, exc_info=error)
            await asyncio.sleep(retry_seconds)
