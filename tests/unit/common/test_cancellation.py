"""Cancelling tasks for certain."""

from __future__ import annotations

import asyncio

import pytest

from careca.cancellation import interruptible
from careca.errors import Unavailable


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
