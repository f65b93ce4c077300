"""Blocking work in threads, and functions that run alone."""

import asyncio
import contextvars
import threading
from contextlib import aclosing

import pytest
from structlog.testing import capture_logs

from careca.errors import Cancelled, Overloaded
from careca.inference.shared_engine import CancelToken
from careca.inference.worker import Done, Worker
from careca.types import Progress, Stage
from support.waiting import HANG_SECONDS, happens, settle


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
                        raise Cancelled("the work was cancelled")
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


async def test_a_cancelled_consumer_cancels_the_work_and_ends_when_the_thread_has_ended(worker):
    work = Held(end_when_cancelled=False)
    consumer = asyncio.create_task(collect(worker.stream(work)))
    await happens(work.started)

    consumer.cancel()
    await happens(work.saw_cancel)
    assert not consumer.done()

    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert work.ended
    assert await worker.run_alone(lambda: "next") == "next"


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


async def test_work_that_is_cancelled_while_it_waits_for_a_function_never_starts(worker):
    running, waiting = Held(), Held()
    first = asyncio.create_task(collect(worker.stream(running)))
    await happens(running.started)
    function = asyncio.create_task(worker.run_alone(lambda: None))
    await settle()
    second = asyncio.create_task(collect(worker.stream(waiting)))
    await settle()

    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    running.may_end.set()
    assert await first == [Done("result")]
    await function
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


async def test_tasks_run_beside_each_other():
    worker = Worker(max_waiting=2)
    works = [Held(number) for number in range(3)]
    tasks = [asyncio.create_task(collect(worker.stream(work))) for work in works]
    for work in works:
        await happens(work.started)

    works[2].may_end.set()
    assert await tasks[2] == [Done(2)]
    assert not tasks[0].done()
    for work in works:
        work.may_end.set()
    await asyncio.gather(*tasks)
    await worker.close()


async def test_callers_without_a_free_place_are_refused_with_a_retry_delay(worker):
    with worker.admit(10), worker.admit(10):
        assert worker.waiting == 2
        with pytest.raises(Overloaded) as refusal, worker.admit(10):
            pass
        assert refusal.value.retry_after_seconds >= 1
    with worker.admit(10):
        pass
    assert worker.waiting == 0


def retry_seconds(worker):
    with pytest.raises(Overloaded) as refusal, worker.admit(1.0):
        pass
    return refusal.value.retry_after_seconds


async def test_the_retry_delay_is_the_time_that_the_device_needs_for_the_work_in_hand(worker):
    worker.measured(100.0, 5.0)
    with worker.admit(200.0) as one, worker.admit(400.0):
        assert retry_seconds(worker) == pytest.approx(30.0)
        one.fraction = 0.75
        assert retry_seconds(worker) == pytest.approx(22.5)


async def test_the_measured_rate_is_that_of_the_latest_tasks(worker):
    for _ in range(50):
        worker.measured(100.0, 50.0)
    for _ in range(50):
        worker.measured(100.0, 5.0)

    with worker.admit(200.0), worker.admit(200.0):
        assert retry_seconds(worker) == pytest.approx(20.0, rel=0.01)


@pytest.mark.parametrize(("audio_seconds", "delay"), [(0.0, 1.0), (36_000.0, 60.0)])
async def test_the_retry_delay_has_limits(worker, audio_seconds, delay):
    with worker.admit(audio_seconds), worker.admit(audio_seconds):
        assert retry_seconds(worker) == delay


async def test_a_task_that_computes_does_not_count_as_waiting(worker):
    with worker.admit(1.0) as place:
        assert (worker.in_flight, worker.waiting) == (0, 1)
        place.computing = True
        assert (worker.in_flight, worker.waiting) == (1, 0)
    assert (worker.in_flight, worker.waiting) == (0, 0)


async def test_a_function_waits_for_running_work_and_later_work_for_the_function():
    """Also if work would otherwise always overlap with other work."""
    worker, running = Worker(max_waiting=3), [Held(), Held()]
    order = []
    tasks = [asyncio.create_task(collect(worker.stream(work))) for work in running]
    for work in running:
        await happens(work.started)
    function = asyncio.create_task(
        worker.run_alone(lambda: order.append(("function", [work.ended for work in running])))
    )
    await settle()
    later = asyncio.create_task(collect(worker.stream(lambda cancel, emit: order.append(("later", [])))))
    running[0].may_end.set()
    await tasks[0]
    await settle()
    assert order == []

    running[1].may_end.set()
    await asyncio.gather(tasks[1], function, later)

    assert order == [("function", [True, True]), ("later", [])]
    await worker.close()


async def test_a_function_that_is_cancelled_while_it_waits_never_runs_and_holds_nobody_up(worker):
    running, ran = Held(), []
    first = asyncio.create_task(collect(worker.stream(running)))
    await happens(running.started)
    function = asyncio.create_task(worker.run_alone(lambda: ran.append("function")))
    await asyncio.sleep(0.01)

    function.cancel()
    with pytest.raises(asyncio.CancelledError):
        await function
    running.may_end.set()
    await first
    assert await worker.run_alone(lambda: "next") == "next"
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

    caller = asyncio.create_task(worker.run_alone(load))
    await happens(started)
    caller.cancel()
    await settle()
    assert not caller.done()

    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_the_thread_sees_the_callers_context_variables(worker):
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("from the caller")

    assert await worker.run_alone(variable.get) == "from the caller"
    assert await collect(worker.stream(lambda cancel, emit: variable.get())) == [Done("from the caller")]


def test_a_token_calls_back_once_whenever_it_is_cancelled():
    before, calls = CancelToken(), []
    before.on_cancel(lambda: calls.append("before"))
    assert (before.cancelled, calls) == (False, [])

    before.cancel()
    before.cancel()
    before.on_cancel(lambda: calls.append("after"))

    assert before.cancelled
    assert calls == ["before", "after"]
