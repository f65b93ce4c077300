"""The deadline of a request."""

from __future__ import annotations

import pytest

from careca.errors import DeadlineExceeded
from careca_gateway import request
from careca_gateway.request import Deadline
from support.waiting import Clock


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(request, "time", clock)
    return clock


def test_without_a_deadline_there_is_always_time() -> None:
    never = Deadline.after(None)

    assert never.remaining() is None
    assert never.allows(1e9)
    assert never.with_margin(10.0) == never


def test_remaining_time_decreases_and_raises_after_the_deadline(clock: Clock) -> None:
    deadline = Deadline.after(10.0)
    clock.seconds += 9.0
    assert deadline.remaining() == 1.0

    clock.seconds += 1.0

    with pytest.raises(DeadlineExceeded):
        deadline.remaining()


def test_a_deadline_allows_less_than_what_is_left() -> None:
    deadline = Deadline.after(100.0)

    assert deadline.allows(99.0)
    assert not deadline.allows(100.0)


def test_a_margin_takes_no_more_than_a_fifth_of_what_is_left() -> None:
    assert Deadline.after(100.0).with_margin(1.0).remaining() == 99.0
    assert Deadline.after(1.0).with_margin(1.0).remaining() == pytest.approx(0.8)


def test_the_sooner_of_two_deadlines_holds() -> None:
    assert Deadline.after(None).within(5.0).remaining() == 5.0
    assert Deadline.after(100.0).within(5.0).remaining() == 5.0
    assert Deadline.after(5.0).within(100.0).remaining() == 5.0
