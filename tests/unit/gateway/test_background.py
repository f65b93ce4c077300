"""Background tasks."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from careca.errors import Unavailable
from careca_gateway.background import cancel_and_wait, interruptible, repeat


async def test_a_step_is_repeated_after_expected_and_unexpected_errors() -> None:
    done = asyncio.Event()
    course: list[Exception | None] = [None, Unavailable("it is away"), ValueError("a fault"), None]

    async def step() -> None:
        if not course:
            done.set()
        elif error := course.pop(0):
            raise error

    with capture_logs() as logs:
        task = repeat("look after things", step, retry_seconds=0.01)
        await done.wait()
        await cancel_and_wait([task])

    assert task.cancelled()
    foreseen, fault = logs
    assert (foreseen["log_level"], foreseen["task"], foreseen["error"]) == (
        "warning",
        "look after things",
        "it is away",
    )
    assert (fault["log_level"], fault["task"], str(fault["exc_info"])) == ("error", "look after things", "a fault")


async def test_the_pause_after_a_failed_step_differs() -> None:
    times: list[float] = []
    loop = asyncio.get_running_loop()

    async def step() -> None:
        times.append(loop.time())
        if len(times) == 1:
            raise Unavailable("it is away")

    task = repeat("x", step, pause_seconds=3600.0, retry_seconds=0.01)
    while len(times) < 2:  # noqa: ASYNC110 - the task changes it
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.1)
    await cancel_and_wait([task])

    assert len(times) == 2


async def test_a_cancellation_that_a_call_swallows_is_not_lost() -> None:
    """As gRPC does if it comes while the call ends."""
    swallowed = 0

    async def call() -> int:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                swallowed += 1
        return 1

    task = asyncio.create_task(interruptible(call()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert swallowed == 2


async def test_an_interruptible_call_returns_and_raises_what_it_does() -> None:
    async def returns() -> int:
        return 5

    async def fails() -> None:
        raise Unavailable("away")

    assert await interruptible(returns()) == 5
    with pytest.raises(Unavailable):
        await interruptible(fails())
