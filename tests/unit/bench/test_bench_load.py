"""The load benchmark's open loop and what it makes of it."""

import asyncio
import itertools
import time

import pytest

from bench.load.arrivals import (
    Asked,
    answered,
    arrivals,
    closed_loop,
    goodput,
    latencies,
    open_loop,
    open_loop_while,
    percentile,
)
from careca.errors import Overloaded, Unavailable
from support.waiting import until


def test_arrivals_are_random_and_the_same_for_the_same_seed() -> None:
    times = arrivals(50.0, 100.0, seed=1)

    assert times == arrivals(50.0, 100.0, seed=1) != arrivals(50.0, 100.0, seed=2)
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 100.0
    assert len(times) == 5000


def test_arrivals_have_the_spread_of_a_poisson_process() -> None:
    times = arrivals(50.0, 200.0, seed=3)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5

    assert deviation == pytest.approx(mean, rel=0.05)


async def test_requests_come_when_they_should_though_none_is_answered() -> None:
    may_answer = asyncio.Event()
    numbers = []

    async def ask(number: int) -> None:
        numbers.append(number)
        await may_answer.wait()

    asking = asyncio.create_task(open_loop(ask, [0.0, 0.01, 0.02]))
    await until(lambda: len(numbers) == 3)
    assert not asking.done()
    may_answer.set()

    asked = await asking

    assert numbers == [0, 1, 2]
    assert [round(each.at - asked[0].at, 3) for each in asked] == [0.0, 0.01, 0.02]
    assert asked[0].seconds > 0.02, "from when it should have come to its answer"


async def test_what_is_refused_is_not_what_fails() -> None:
    errors = [None, Overloaded("full", retry_after_seconds=1.0), Unavailable("gone")]

    async def ask(number: int) -> None:
        if error := errors[number]:
            raise error

    asked = await open_loop(ask, [0.0, 0.0, 0.0])

    assert [each.refused for each in asked] == [False, True, False]
    assert [each.failed for each in asked] == [False, False, True]
    assert answered(asked) == asked[:1]


async def test_requests_come_until_a_change_is_done_and_all_are_answered() -> None:
    changed, may_answer = asyncio.Event(), asyncio.Event()
    numbers = []

    async def ask(number: int) -> None:
        numbers.append(number)
        if number == 2:
            changed.set()
        await may_answer.wait()

    async def change() -> None:
        await changed.wait()

    asking = asyncio.create_task(open_loop_while(asyncio.create_task(change()), ask, 100.0, 1))
    await changed.wait()
    may_answer.set()

    asked = await asking

    assert len(asked) == len(numbers) >= 3
    assert numbers == sorted(numbers)


async def test_a_change_that_fails_is_not_taken_for_one_that_is_done() -> None:
    async def change() -> None:
        raise Unavailable("it did not start")

    async def ask(_number: int) -> None:
        pass

    with pytest.raises(Unavailable):
        await open_loop_while(asyncio.create_task(change()), ask, 100.0, 1)


async def test_a_closed_loop_has_so_many_callers() -> None:
    together = most = 0

    async def ask(_: int) -> None:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.01)
        together -= 1

    asked = await closed_loop(ask, callers=3, duration=0.1)

    assert most == 3
    assert len(asked) >= 3
    assert all(each.at <= time.monotonic() for each in asked)


@pytest.mark.parametrize(("fraction", "value"), [(0.50, 50.0), (0.95, 95.0), (0.99, 99.0), (1.0, 100.0)])
def test_a_percentile_is_one_of_the_values(fraction: float, value: float) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], fraction) == value


def test_nothing_has_no_percentile() -> None:
    assert percentile([], 0.5) is None
    assert latencies([Asked(0.0, 1.0, Unavailable("gone"))]) == ["-", "-", "-"]


def test_only_results_count_and_only_those_within_the_time() -> None:
    asked = [Asked(0.0, 0.5), Asked(0.0, 1.5), Asked(0.0, 1.7), Asked(0.0, 2.5), Asked(0.0, 1.6, Overloaded("full"))]

    assert goodput(asked, 1.0, 2.0) == 2.0
    assert latencies(asked) == ["1.50 s", "2.50 s", "2.50 s"]
