"""Bodies that arrive too slowly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from careca.errors import InvalidRequest
from careca_web.http import limits
from careca_web.http.limits import BodyLimitMiddleware


class Clock:
    """Stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limits, "time", clock)
    return clock


def nothing() -> None:
    """No time passes."""


async def receive_body(
    size: int, piece: int, *, before_piece: Callable[[], None] = nothing, after_piece: Callable[[], None] = nothing
) -> int:
    """Returns how much of a body an application gets that must send 100 bytes per second after 60 seconds.

    ``before_piece`` runs while the application waits for a piece, and ``after_piece`` when it has it.
    """
    received = 0

    async def receive() -> Message:
        before_piece()
        return {"type": "http.request", "body": bytes(piece), "more_body": received + piece < size}

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal received
        while received < size:
            received += len((await receive())["body"])
            after_piece()

    async def send(message: Message) -> None:
        raise AssertionError(message)

    limited = BodyLimitMiddleware(application, idle_seconds=60.0, min_bytes_per_second=100, max_receiving=1)
    await limited({"type": "http", "headers": []}, receive, send)
    return received


def passing(clock: Clock, seconds: float) -> Callable[[], None]:
    def passes() -> None:
        clock.now += seconds

    return passes


async def test_a_body_that_is_never_idle_for_long_has_a_minimum_rate(clock: Clock) -> None:
    with pytest.raises(InvalidRequest, match="fewer than 100 bytes per second") as refused:
        await receive_body(10_000, 1, before_piece=passing(clock, 59.0))

    assert refused.value.reason == "BODY_STALLED"
    assert clock.now == 118.0


async def test_a_body_with_the_minimum_rate_is_received(clock: Clock) -> None:
    slow = await receive_body(100_000, 1000, before_piece=passing(clock, 10.0))

    assert slow == 100_000


async def test_time_in_which_the_service_itself_is_busy_does_not_count(clock: Clock) -> None:
    assert await receive_body(100, 1, after_piece=passing(clock, 1000.0)) == 100
