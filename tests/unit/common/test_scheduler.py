"""The order in which requests get the device, with a clock that only batches move."""

from __future__ import annotations

import contextvars
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca.errors import Cancelled, OutOfMemory
from careca.inference.engine import Batch, Work, complete
from careca.inference.scheduler import PATIENCE, Ended, Scheduler, Started, Step
from careca.types import Progress, Scheduling, SchedulingClass, Stage
from support.waiting import Clock

INTERACTIVE, BATCH = SchedulingClass.INTERACTIVE, SchedulingClass.BATCH


@dataclass
class Device:
    """Requests of batches that take seconds, and a record of whose items were computed together."""

    share: bool = False
    clock: Clock = field(default_factory=Clock)
    batches: list[list[str]] = field(default_factory=list)
    events: list[tuple[str, object]] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.scheduler = Scheduler(share=self.share, clock=self.clock)
        self.names: dict[int, str] = {}

    def add(
        self,
        name: str,
        batches: int = 1,
        *,
        seconds: float = 1.0,
        items: int = 1,
        key: object = "key",
        most: int = 4,
        scheduling: Scheduling | None = None,
        work: Work[object] | None = None,
    ) -> int:
        """Adds a request of some batches. An item takes ``seconds``, and a batch as long as its longest item."""
        number = len(self.names)
        self.names[number] = name
        work = work or self.work(name, batches, seconds=seconds, items=items, key=key, most=most)
        self.scheduler.add(number, work, scheduling or Scheduling())
        return number

    def work(self, name: str, batches: int, *, seconds: float, items: int, key: object, most: int) -> Work[object]:
        results: list[object] = []
        for number in range(batches):
            mine = [(name, seconds, f"{name}{number}.{item}") for item in range(items)]
            results += yield Batch(key, mine, self.compute, most)
            yield Progress(Stage.TRANSCRIBE, (number + 1) / batches)
        return results

    def compute(self, items: Sequence[tuple[str, float, str]]) -> list[str]:
        self.clock.seconds += max(seconds for _, seconds, _ in items)
        self.batches.append([name for name, _, _ in items])
        if broken := self.failing & {name for name, _, _ in items}:
            raise OutOfMemory(f"{broken}")
        return [f"result of {item}" for _, _, item in items]

    def step(self) -> set[str]:
        """Returns who took part."""
        before = len(self.batches)
        occurrences = self.scheduler.step()
        self.events += [(self.names[number], occurrence) for number, occurrence in occurrences]
        started = {self.names[number] for number, each in occurrences if isinstance(each, Started)}
        return started.union(*self.batches[before:])

    def run(self) -> None:
        while len(self.scheduler):
            self.step()

    def ends(self) -> dict[str, Ended]:
        """In the order in which requests ended."""
        return {name: each for name, each in self.events if isinstance(each, Ended)}


def of(name: str, scheduling_class: SchedulingClass = INTERACTIVE) -> Scheduling:
    return Scheduling(scheduling_class, name)


def test_a_request_gets_the_results_of_its_batches_and_tells_its_events_in_order() -> None:
    device = Device()
    device.add("a", 2, items=2)

    device.run()

    kinds = [type(each) for _, each in device.events]
    assert kinds == [Started, Step, Progress, Step, Progress, Ended]
    assert device.ends()["a"].value == [f"result of a{batch}.{item}" for batch in range(2) for item in range(2)]
    assert device.ends()["a"].seconds == 2.0
    assert device.ends()["a"].waited_seconds == 0.0


def test_without_requests_nothing_happens() -> None:
    device = Device()

    assert device.scheduler.step() == []
    assert len(device.scheduler) == 0


def test_interactive_requests_end_before_batch_requests_that_came_earlier() -> None:
    device = Device()
    device.add("long", 10, scheduling=of("x", BATCH))
    device.step()
    device.step()

    device.add("short", 3)
    device.run()

    assert list(device.ends()) == ["short", "long"]
    assert device.batches[1:4] == [["short"]] * 3
    assert device.ends()["long"].waited_seconds == 3.0


def test_short_requests_of_a_submitter_end_before_long_ones_that_came_earlier() -> None:
    device = Device()
    device.add("long", 30)
    for _ in range(6):
        device.step()

    device.add("short", 3)
    device.run()

    assert list(device.ends()) == ["short", "long"]


def test_two_equal_requests_of_a_submitter_take_turns() -> None:
    device = Device()
    device.add("a", 3)
    device.add("b", 3)

    device.run()

    assert device.batches == [["a"], ["b"]] * 3


def test_submitters_get_equal_time_however_many_requests_they_have() -> None:
    device = Device()
    for number in range(5):
        device.add(f"many{number}", 6, scheduling=of("many"))
    device.add("one", 6, seconds=2.0, scheduling=of("one"))

    while "one" not in device.ends():
        device.step()

    received = sum(name.startswith("many") for (name,) in device.batches)
    assert received == pytest.approx(12, abs=3)


def test_a_new_submitter_does_not_wait_for_the_past_of_others_and_they_do_not_wait_for_it() -> None:
    device = Device()
    device.add("old", 200, scheduling=of("old"))
    for _ in range(100):
        device.step()

    device.add("new", 50, scheduling=of("new"))
    first = len(device.batches)
    for _ in range(40):
        device.step()

    later = [name for (name,) in device.batches[first:]]
    assert later.count("new") == pytest.approx(later.count("old"), abs=2)


@given(data=st.data(), places=st.integers(1, 6))
def test_every_request_moves_within_a_bounded_number_of_steps(data: st.DataObject, places: int) -> None:
    """Whatever arrives: classes, submitters, lengths and times of batches are at random, and so are cancellations."""
    device = Device()
    waited: dict[str, int] = {}
    count = 0
    for _ in range(data.draw(st.integers(1, 150))):
        for _ in range(data.draw(st.integers(0, 2))):
            if len(device.scheduler) < places:
                scheduling = Scheduling(data.draw(st.sampled_from(SchedulingClass)), data.draw(st.sampled_from("ab")))
                seconds = data.draw(st.sampled_from([0.001, 1.0, 50.0]))
                name = f"{count}"
                device.add(name, data.draw(st.integers(1, 40)), seconds=seconds, scheduling=scheduling)
                waited[name] = 0
                count += 1
        moved = device.step()
        ended = device.ends()
        waited = {name: 0 if name in moved else steps + 1 for name, steps in waited.items() if name not in ended}
        assert all(steps < (PATIENCE + 1) * places for steps in waited.values())


def test_a_batch_request_moves_although_interactive_ones_never_end() -> None:
    device = Device()
    device.add("batch", 3, scheduling=of("x", BATCH))
    number = 0
    while "batch" not in device.ends():
        if len(device.scheduler) < 2:
            device.add(f"interactive{number}", 5)
            number += 1
        device.step()

    interactive = sum(name != "batch" for (name,) in device.batches)
    assert interactive >= 7 * 3 * PATIENCE / 8, "the class still counts"


# Sharing


def test_batches_with_equal_keys_are_computed_together() -> None:
    device = Device(share=True)
    device.add("a", items=2)
    device.add("b", items=1)
    device.add("c", items=1, key="other")

    device.run()

    assert sorted(device.batches) == [["a", "a", "b"], ["c"]]
    assert device.ends()["b"].value == ["result of b0.0"]
    steps = [each for _, each in device.events if isinstance(each, Step)]
    assert [(step.items, step.requests) for step in steps] == [(3, 2), (1, 1)]


def test_a_batch_that_does_not_fit_is_divided_and_its_request_goes_on_when_all_of_it_is_computed() -> None:
    device = Device(share=True)
    device.add("a", items=3, most=4)
    device.add("b", items=3, most=4)

    device.run()

    assert device.batches == [["a", "a", "a", "b"], ["b", "b"]]
    assert device.ends()["b"].value == ["result of b0.0", "result of b0.1", "result of b0.2"]


def test_the_time_of_a_shared_batch_is_divided_by_items() -> None:
    device = Device(share=True)
    device.add("a", items=3, seconds=4.0)
    device.add("b", items=1, seconds=4.0)

    device.run()

    assert (device.ends()["a"].seconds, device.ends()["b"].seconds) == (3.0, 1.0)


def test_without_sharing_no_batch_has_items_of_two_requests() -> None:
    device = Device(share=False)
    device.add("a", 2)
    device.add("b", 2)

    device.run()

    assert all(len(set(names)) == 1 for names in device.batches)


def test_if_a_shared_batch_fails_only_the_request_at_fault_fails() -> None:
    device = Device(share=True, failing={"b"})
    for name in "abc":
        device.add(name)

    device.run()

    assert device.batches == [["a", "b", "c"], ["a"], ["b"], ["c"]]
    assert isinstance(device.ends()["b"].error, OutOfMemory)
    assert [device.ends()[name].error for name in "ac"] == [None, None]


@given(
    requests=st.lists(
        st.tuples(st.integers(1, 5), st.integers(1, 4), st.sampled_from("xy"), st.sampled_from(SchedulingClass)),
        min_size=1,
        max_size=8,
    )
)
def test_the_result_is_that_of_the_request_alone(requests: list[tuple[int, int, str, SchedulingClass]]) -> None:
    device = Device(share=True)
    for index, (batches, items, key, scheduling_class) in enumerate(requests):
        device.add(f"{index}", batches, items=items, key=key, scheduling=Scheduling(scheduling_class))

    device.run()

    for index, (batches, items, key, _) in enumerate(requests):
        alone = complete(Device().work(f"{index}", batches, seconds=1.0, items=items, key=key, most=4))
        assert device.ends()[f"{index}"].value == alone
    assert all(len(names) <= 4 for names in device.batches)


# Ends


def test_a_failed_batch_raises_where_it_was_asked_for() -> None:
    device = Device()

    def work() -> Work[str]:
        try:
            yield Batch.alone(lambda: 1 / 0)
        except ZeroDivisionError:
            (result,) = yield Batch.alone(lambda: "recovered")
            return result
        return "not reached"

    device.add("a", work=work())
    device.run()

    assert device.ends()["a"].value == "recovered"


@pytest.mark.parametrize("results", [[], ["one", "too many"]], ids=["too few", "too many"])
def test_a_batch_without_one_result_for_each_item_fails(results: list[str]) -> None:
    device = Device()

    def work() -> Work[None]:
        yield Batch("key", ["item"], lambda _: results, most=4)

    device.add("a", work=work())
    device.run()

    assert isinstance(device.ends()["a"].error, ValueError)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_cancelled_request_is_closed_and_others_go_on(steps: int) -> None:
    device, closed = Device(), []

    def work() -> Work[None]:
        try:
            for _ in range(5):
                yield Batch.alone(lambda: None)
        finally:
            closed.append(True)

    number = device.add("a", work=work())
    for _ in range(steps):
        device.step()

    ended = device.scheduler.cancel(number)

    assert ended is not None
    assert isinstance(ended.error, Cancelled)
    assert closed == [True] * (steps > 0)
    assert device.scheduler.cancel(number) is None, "it is not in hand any more"
    device.add("b")
    device.run()
    assert device.ends()["b"].error is None


def test_a_request_that_cannot_be_closed_says_why() -> None:
    device = Device()

    def work() -> Work[None]:
        try:
            yield Batch.alone(lambda: None)
        finally:
            raise ValueError("broken")

    number = device.add("a", work=work())
    device.step()

    ended = device.scheduler.cancel(number)

    assert ended is not None
    assert isinstance(ended.error, ValueError)
    assert len(device.scheduler) == 0


def test_work_without_a_batch_ends_in_its_first_step() -> None:
    device = Device()

    def work() -> Work[str]:
        yield Progress(Stage.DIARIZE, 1.0)
        return "at once"

    device.add("a", work=work())
    device.step()

    assert device.ends()["a"].value == "at once"


def test_after_an_exclusive_batch_the_same_request_goes_on() -> None:
    device = Device()

    def work() -> Work[None]:
        for _ in range(3):
            yield Batch.alone(lambda: device.batches.append(["exclusive"]), exclusive=True)
        yield Batch.alone(lambda: device.batches.append(["free"]))

    device.add("a", work=work(), scheduling=of("x", BATCH))
    for _ in range(2):
        device.step()
    device.add("b", 2)
    device.run()

    assert device.batches == [["exclusive"]] * 3 + [["free"]] + [["b"]] * 2


def test_a_cancelled_exclusive_request_holds_nobody_up() -> None:
    device = Device()

    def work() -> Work[None]:
        while True:
            yield Batch.alone(lambda: None, exclusive=True)

    number = device.add("a", work=work())
    for _ in range(2):
        device.step()
    device.scheduler.cancel(number)
    device.add("b")
    device.run()

    assert "b" in device.ends()


def test_work_and_batches_run_in_the_context_of_their_request() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []
    device = Device()

    def work() -> Work[None]:
        seen.append(variable.get())
        yield Batch.alone(lambda: seen.append(variable.get()))
        seen.append(variable.get())

    for number, name in enumerate("ab"):
        context = contextvars.copy_context()
        context.run(variable.set, name)
        device.names[number] = name
        device.scheduler.add(number, work(), Scheduling(), context)
    device.run()

    assert sorted(seen) == ["a"] * 3 + ["b"] * 3
    assert variable.get() == "unset"


@pytest.mark.parametrize("items", [0, 5])
def test_a_batch_has_items_and_not_too_many(items: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 4"):
        Batch("key", [None] * items, lambda each: each, most=4)
