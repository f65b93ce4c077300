"""When a caller stops waiting."""

from __future__ import annotations

import pytest

from careca.errors import DeadlineExceeded
from careca_gateway.request import Deadline


def test_without_a_deadline_there_is_always_time() -> None:
    never = Deadline.after(None)

    assert never.remaining() is None
    assert never.allows(1e9)
    assert never.earlier(10.0) == never


def test_a_deadline_that_passed_is_an_error() -> None:
    with pytest.raises(DeadlineExceeded):
        Deadline.after(-0.001).remaining()


def test_a_deadline_allows_less_than_what_is_left() -> None:
    deadline = Deadline.after(100.0)

    assert deadline.allows(90.0)
    assert not deadline.allows(100.0)


def test_a_margin_takes_no_more_than_a_fifth_of_what_is_left() -> None:
    assert Deadline.after(100.0).earlier(1.0).remaining() == pytest.approx(99.0, abs=0.5)
    assert Deadline.after(1.0).earlier(1.0).remaining() == pytest.approx(0.8, abs=0.1)


def test_the_sooner_of_two_deadlines_holds() -> None:
    assert Deadline.after(None).within(5.0).remaining() == pytest.approx(5.0, abs=0.5)
    assert Deadline.after(100.0).within(5.0).remaining() == pytest.approx(5.0, abs=0.5)
    assert Deadline.after(5.0).within(100.0).remaining() == pytest.approx(5.0, abs=0.5)
