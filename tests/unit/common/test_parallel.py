"""Batches are divided among threads."""

import threading

import pytest

from careca.inference.parallel import Threads
from support.waiting import HANG_SECONDS


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("items", [[], [1], [1, 2], [1, 2, 3, 4, 5]])
def test_results_are_in_the_order_of_the_items(count, items):
    assert Threads(count).compute(lambda part: [10 * item for item in part], items) == [10 * item for item in items]


def test_every_thread_gets_one_part_and_works_at_the_same_time_as_the_others():
    parts = []
    together = threading.Barrier(2, timeout=HANG_SECONDS)

    def compute(part):
        parts.append(list(part))
        together.wait()
        return part

    Threads(2).compute(compute, [1, 2, 3])

    assert sorted(parts) == [[1], [2, 3]]


def test_one_thread_is_the_callers():
    assert Threads(1).compute(lambda part: [threading.current_thread()], [0, 1]) == [threading.current_thread()]


def test_an_error_is_raised_when_all_parts_have_ended():
    failed, ended = threading.Event(), []

    def compute(part):
        if part == [0]:
            failed.set()
            raise ValueError("damaged")
        failed.wait(HANG_SECONDS)
        ended.append(part)
        return part

    with pytest.raises(ValueError, match="damaged"):
        Threads(2).compute(compute, [0, 1])

    assert ended == [[1]]
