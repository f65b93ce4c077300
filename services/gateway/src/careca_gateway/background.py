"""Background tasks: repeating a step, and retrying until a shared service answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from careca.errors import CarecaError, Overloaded, Unavailable
from careca.telemetry.logs import get_logger

RETRY_SECONDS = 0.5
"""The default pause after a step that failed."""

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
