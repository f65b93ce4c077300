"""A function with a callback as work in steps."""

import threading

import pytest

from careca.errors import Cancelled
from careca.inference.engine import Batch, complete
from careca.types import Progress, Stage
from careca_diarizer.stepwise import in_steps


def progress(fraction: float) -> Progress:
    return Progress(Stage.DIARIZE, fraction)


def recording(work, seen):
    """The same work; records the steps that are done after each of its batches, which are all exclusive."""
    results = None
    while True:
        try:
            asked = work.send(results)
        except StopIteration as stop:
            return stop.value
        results = yield asked
        if isinstance(asked, Batch):
            assert asked.exclusive
            seen.append(list(STEPS))


STEPS: list[str] = []


def test_each_call_back_ends_a_batch_and_is_an_event() -> None:
    def function(pause) -> str:
        for number in range(2):
            STEPS.append(f"step {number}")
            pause(progress(number / 2))
        STEPS.append("end")
        return "result"

    told: list[object] = []
    seen: list[list[str]] = []
    recorded = recording(in_steps(function), seen)

    assert complete(recorded, told.append) == "result"
    assert told == [progress(0.0), progress(0.5)]
    assert seen == [["step 0"], ["step 0", "step 1"], ["step 0", "step 1", "end"]]


def test_what_the_function_raises_is_raised() -> None:
    def function(pause) -> None:
        pause(progress(0.5))
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        complete(in_steps(function))


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_closed_work_ends_the_function_where_it_called_back(batches: int) -> None:
    cancelled: list[Cancelled] = []

    def function(pause) -> None:
        try:
            while True:
                pause(progress(0.5))
        except Cancelled as error:
            cancelled.append(error)
            raise

    work, results = in_steps(function), None
    asked = next(work)
    for _ in range(batches):
        assert isinstance(asked, Batch)
        results = asked.compute(asked.items)
        assert work.send(results) == progress(0.5)
        asked = next(work)
    threads = threading.active_count()

    work.close()

    assert len(cancelled) == (batches > 0)
    assert threading.active_count() < threads
