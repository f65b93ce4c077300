"""Background tasks."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from careca.cancellation import cancel_and_wait
from careca.errors import Unavailable
from careca_gateway.background import repeat


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
