"""Results of batches that are kept for a later request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from careca.errors import OutOfMemory
from careca.inference.engine import Batch, Work, complete
from careca.inference.preparation import PreparedResults, with_prepared
from careca.types import Progress, Stage


class Squares:
    """Computes squares in batches of two, and notes what it computed."""

    def __init__(self) -> None:
        self.computed: list[int] = []

    def work(
        self, numbers: Sequence[int], *, key: str = "square", together: bool = False, settled: int = 255
    ) -> Work[list[int]]:
        """Numbers up to ``settled`` are."""
        squares: list[int] = []
        for first in range(0, len(numbers), 2):
            squares += yield Batch(
                key,
                numbers[first : first + 2],
                self._compute,
                most=2,
                identity=lambda number: bytes([number]),
                together=together,
                settled=lambda number: number <= settled,
            )
            yield Progress(Stage.TRANSCRIBE, len(squares) / len(numbers))
        return squares

    def _compute(self, numbers: Sequence[int]) -> list[int]:
        self.computed += numbers
        return [number * number for number in numbers]


def test_a_later_request_computes_only_what_is_new() -> None:
    squares, prepared = Squares(), PreparedResults()
    complete(with_prepared(squares.work([1, 2, 3]), prepared, keep=True))
    squares.computed.clear()

    found = complete(with_prepared(squares.work([2, 4, 3, 1]), prepared, keep=False))

    assert found == [4, 16, 9, 1]
    assert squares.computed == [4]


def test_preparing_again_computes_only_what_is_new() -> None:
    squares, prepared = Squares(), PreparedResults()
    for numbers in ([1, 2], [1, 2, 3, 4], [1, 2, 3, 4, 5]):
        complete(with_prepared(squares.work(numbers), prepared, keep=True))

    assert squares.computed == [1, 2, 3, 4, 5]


def test_results_that_were_used_are_not_kept() -> None:
    squares, prepared = Squares(), PreparedResults()
    complete(with_prepared(squares.work([1, 2, 3]), prepared, keep=True))

    complete(with_prepared(squares.work([1, 2]), prepared, keep=False))

    assert len(prepared) == 1
    complete(with_prepared(squares.work([3]), prepared, keep=False))
    assert (len(prepared), prepared.size_bytes) == (0, 0)


def test_an_ordinary_request_keeps_nothing() -> None:
    prepared = PreparedResults()

    complete(with_prepared(Squares().work([1, 2]), prepared, keep=False))

    assert len(prepared) == 0


def test_results_of_another_key_are_not_used() -> None:
    squares, prepared = Squares(), PreparedResults()
    complete(with_prepared(squares.work([1]), prepared, keep=True))

    complete(with_prepared(squares.work([1], key="another"), prepared, keep=False))

    assert squares.computed == [1, 1]


def test_the_least_recently_used_results_are_dropped_first() -> None:
    squares, sizes = Squares(), PreparedResults()
    complete(with_prepared(squares.work([1]), sizes, keep=True))
    prepared = PreparedResults(max_bytes=2 * sizes.size_bytes)
    for numbers in ([1], [2], [1], [3]):
        complete(with_prepared(squares.work(numbers), prepared, keep=True))
    squares.computed.clear()

    complete(with_prepared(squares.work([1, 3, 2]), prepared, keep=False))

    assert squares.computed == [2]


def test_items_that_depend_on_each_other_are_kept_together() -> None:
    squares, prepared = Squares(), PreparedResults()
    complete(with_prepared(squares.work([1, 2, 3], together=True), prepared, keep=True))
    squares.computed.clear()

    found = complete(with_prepared(squares.work([1, 2, 3, 4], together=True), prepared, keep=False))

    assert found == [1, 4, 9, 16]
    assert squares.computed == [3, 4], "3 was computed without 4 before"


@pytest.mark.parametrize(
    ("together", "computed"), [pytest.param(False, [1, 2, 3], id="alone"), pytest.param(True, [1, 2], id="together")]
)
def test_preparing_ends_where_results_may_change(together: bool, computed: list[int]) -> None:
    squares, prepared = Squares(), PreparedResults()
    for _ in range(2):
        complete(with_prepared(squares.work([1, 2, 3, 9, 4], settled=8, together=together), prepared, keep=True))
        assert squares.computed == computed

    found = complete(with_prepared(squares.work([1, 2, 3, 4, 9], settled=0, together=together), prepared, keep=False))

    assert found == [1, 4, 9, 16, 81]
    assert squares.computed == [*computed, *(number for number in (3, 4, 9) if number not in computed)]


def test_a_result_that_is_nothing_is_a_result() -> None:
    computed: list[int] = []

    def work() -> Work[Any]:
        return (yield Batch("key", [1], lambda items: computed.extend(items) or [None], most=1, identity=lambda _: b""))

    prepared = PreparedResults()
    for keep in (True, False):
        assert complete(with_prepared(work(), prepared, keep=keep)) == [None]

    assert computed == [1]


def test_batches_without_an_identity_are_always_computed() -> None:
    calls: list[int] = []

    def work() -> Work[Any]:
        yield Batch.alone(lambda: calls.append(1))

    prepared = PreparedResults()
    for _ in range(2):
        complete(with_prepared(work(), prepared, keep=True))

    assert calls == [1, 1]


def test_the_work_gets_the_error_of_its_batch() -> None:
    def work() -> Work[str]:
        try:
            yield Batch("key", [1], lambda _: [1], most=1, identity=lambda _: b"")
        except OutOfMemory:
            yield Progress(Stage.TRANSCRIBE, 0.5)
            return "smaller"
        return "all"

    running = with_prepared(work(), PreparedResults(), keep=True)
    assert isinstance(next(running), Batch)

    assert running.throw(OutOfMemory("too much")) == Progress(Stage.TRANSCRIBE, 0.5)
    with pytest.raises(StopIteration) as stop:
        next(running)
    assert stop.value.value == "smaller"


def test_closing_closes_the_work() -> None:
    closed: list[bool] = []

    def work() -> Work[None]:
        try:
            yield Batch("key", [1], lambda _: [1], most=1, identity=lambda _: b"")
        finally:
            closed.append(True)

    running = with_prepared(work(), PreparedResults(), keep=True)
    next(running)
    running.close()

    assert closed == [True]


def test_events_pass() -> None:
    events: list[Any] = []

    complete(with_prepared(Squares().work([1, 2, 3, 4]), PreparedResults(), keep=True), events.append)

    assert events == [Progress(Stage.TRANSCRIBE, 0.5), Progress(Stage.TRANSCRIBE, 1.0)]
