"""Blocking work in threads."""

import asyncio
import contextvars
import threading
from contextlib import aclosing

import pytest
from structlog.testing import capture_logs

from careca.errors import Cancelled, Overloaded
from careca.inference.worker import Done, Worker
from careca.types import Progress, Stage
from support.waiting import HANG_SECONDS, happens


@pytest.fixture
async def worker():
    worker = Worker(max_waiting=1)
    yield worker
    await worker.close()


def progress(fraction):
    return Progress(Stage.DIARIZE, fraction)


class Held:
    """Work that waits until it is released or cancelled."""

    def __init__(self, result="result", end_when_cancelled=True):
        self.started = threading.Event()
        self.may_end = threading.Event()
        self.saw_cancel = threading.Event()
        self.ended = False
        self._result = result
        self._end_when_cancelled = end_when_cancelled

    def __call__(self, cancel, emit):
        self.started.set()
        try:
            while not self.may_end.wait(0.005):
                if cancel.cancelled:
                    self.saw_cancel.set()
                    if self._end_when_cancelled:
                        cancel.raise_if_cancelled()
            return self._result
        finally:
            self.ended = True


async def collect(events):
    async with aclosing(events):
        return [event async for event in events]


async def test_what_the_work_emits_comes_in_order_and_its_result_last(worker):
    def work(cancel, emit):
        for number in range(100):
            emit(number)
        return "result"

    assert await collect(worker.stream(work)) == [*range(100), Done("result")]


async def test_what_the_work_emits_comes_while_it_still_runs(worker):
    may_end = threading.Event()

    def work(cancel, emit):
        emit("early")
        assert may_end.wait(HANG_SECONDS)
        return "result"

    async with aclosing(worker.stream(work)) as events:
        assert await anext(events) == "early"
        may_end.set()
        assert await anext(events) == Done("result")


async def test_a_slow_consumer_gets_the_latest_progress_and_every_segment(worker):
    emitted = threading.Event()

    def work(cancel, emit):
        emit("first")
        assert go_on.wait(HANG_SECONDS)
        for number in range(1000):
            emit(progress(number / 1000))
            if number % 100 == 0:
                emit(number)
        emitted.set()

    go_on = threading.Event()
    async with aclosing(worker.stream(work)) as events:
        assert await anext(events) == "first"
        go_on.set()
        await happens(emitted)
        rest = [event async for event in events]

    assert rest == [*range(0, 1000, 100), progress(0.999), Done(None)]


async def test_what_the_work_raises_is_raised(worker):
    def work(cancel, emit):
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await collect(worker.stream(work))
    assert worker.in_flight == 0


async def test_a_cancelled_consumer_cancels_the_work_and_frees_its_slot_when_the_thread_has_ended(worker):
    work = Held(end_when_cancelled=False)
    consumer = asyncio.create_task(collect(worker.stream(work)))
    await happens(work.started)

    consumer.cancel()
    await happens(work.saw_cancel)
    assert worker.in_flight == 1
    assert not consumer.done()

    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert work.ended
    assert worker.in_flight == 0
    assert await worker.run(lambda: "next") == "next"


async def test_a_consumer_that_is_cancelled_repeatedly_still_waits_for_the_thread(worker):
    work = Held(end_when_cancelled=False)
    consumer = asyncio.create_task(collect(worker.stream(work)))
    await happens(work.started)

    for _ in range(3):
        consumer.cancel()
        await asyncio.sleep(0.01)
    assert not consumer.done()

    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await consumer


async def test_closing_the_stream_cancels_the_work_and_waits_for_its_end(worker):
    work = Held()

    def emitting(cancel, emit):
        emit("first")
        return work(cancel, emit)

    async with aclosing(worker.stream(emitting)) as events:
        assert await anext(events) == "first"

    assert work.ended
    assert worker.in_flight == 0


async def test_work_that_is_cancelled_while_it_waits_for_a_slot_never_starts(worker):
    running, waiting = Held(), Held()
    first = asyncio.create_task(collect(worker.stream(running)))
    await happens(running.started)
    second = asyncio.create_task(collect(worker.stream(waiting)))
    await asyncio.sleep(0.01)

    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    running.may_end.set()
    assert await first == [Done("result")]
    assert not waiting.started.is_set()


async def test_a_failure_after_the_caller_has_gone_is_logged(worker):
    started = threading.Event()

    def work(cancel, emit):
        started.set()
        while not cancel.cancelled:
            pass
        raise ValueError("broken")

    consumer = asyncio.create_task(collect(worker.stream(work)))
    await happens(started)
    with capture_logs() as logs:
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer

    assert [(line["log_level"], str(line["exc_info"])) for line in logs] == [("warning", "broken")]


async def test_a_requested_cancellation_is_not_logged_as_a_failure(worker):
    work = Held()
    consumer = asyncio.create_task(collect(worker.stream(work)))
    await happens(work.started)
    with capture_logs() as logs:
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer

    assert logs == []


async def test_work_that_cancels_itself_raises_cancelled(worker):
    def work(cancel, emit):
        cancel.cancel()
        cancel.raise_if_cancelled()

    with pytest.raises(Cancelled):
        await collect(worker.stream(work))


async def test_one_task_runs_at_a_time(worker):
    works = [Held() for _ in range(3)]
    tasks = [asyncio.create_task(collect(worker.stream(work))) for work in works]
    await happens(works[0].started)

    assert worker.in_flight == 1
    assert not works[1].started.is_set()
    works[0].may_end.set()
    await happens(works[1].started)
    assert works[0].ended
    assert not works[2].started.is_set()
    for work in works:
        work.may_end.set()
    assert await asyncio.gather(*tasks) == [[Done("result")]] * 3


async def test_callers_without_a_free_place_are_refused_with_a_retry_delay(worker):
    with worker.admit(), worker.admit():
        assert worker.waiting == 2
        with pytest.raises(Overloaded) as refusal, worker.admit():
            pass
        assert refusal.value.retry_after_seconds >= 1
    with worker.admit():
        pass
    assert worker.waiting == 0


async def test_a_task_that_computes_does_not_count_as_waiting(worker):
    work = Held()
    with worker.admit():
        task = asyncio.create_task(collect(worker.stream(work)))
        await happens(work.started)
        assert (worker.in_flight, worker.waiting) == (1, 0)
        work.may_end.set()
        await task
    assert (worker.in_flight, worker.waiting) == (0, 0)


async def test_a_function_waits_for_running_work_and_later_work_for_the_function(worker):
    running = Held()
    order = []
    first = asyncio.create_task(collect(worker.stream(running)))
    await happens(running.started)
    function = asyncio.create_task(worker.run(lambda: order.append(("function", running.ended))))
    await asyncio.sleep(0.01)
    later = asyncio.create_task(collect(worker.stream(lambda cancel, emit: order.append(("later", running.ended)))))
    await asyncio.sleep(0.01)
    assert order == []

    running.may_end.set()
    await asyncio.gather(first, function, later)

    assert order == [("function", True), ("later", True)]


async def test_a_function_that_is_cancelled_while_it_waits_never_runs_and_frees_its_place(worker):
    running, ran = Held(), []
    first = asyncio.create_task(collect(worker.stream(running)))
    await happens(running.started)
    function = asyncio.create_task(worker.run(lambda: ran.append("function")))
    await asyncio.sleep(0.01)

    function.cancel()
    with pytest.raises(asyncio.CancelledError):
        await function
    running.may_end.set()
    await first
    assert await worker.run(lambda: "next") == "next"
    assert ran == []


async def test_closing_waits_for_running_work():
    worker, running = Worker(), Held()
    first = asyncio.create_task(collect(worker.stream(running)))
    await happens(running.started)
    closing = asyncio.create_task(worker.close())
    await asyncio.sleep(0.01)
    assert not closing.done()

    running.may_end.set()
    await closing
    assert await first == [Done("result")]


async def test_a_running_function_finishes_even_if_its_caller_is_cancelled(worker):
    started, may_end = threading.Event(), threading.Event()

    def load():
        started.set()
        assert may_end.wait(HANG_SECONDS)

    caller = asyncio.create_task(worker.run(load))
    await happens(started)
    caller.cancel()
    await asyncio.sleep(0.01)
    assert worker.in_flight == 1

    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert worker.in_flight == 0


async def test_the_thread_sees_the_callers_context_variables(worker):
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("from the caller")

    assert await worker.run(variable.get) == "from the caller"
    assert await collect(worker.stream(lambda cancel, emit: variable.get())) == [Done("from the caller")]
