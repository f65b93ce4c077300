"""Chooses whose batch a device computes next, for all requests in hand. It has no thread, no model and no clock.

The order of requests:

1. A request that has waited for more than ``PATIENCE`` steps for each request in hand, the longest wait first. So each
   request takes part in a step at least once in ``(PATIENCE + 1) * requests`` steps, whatever else arrives.
2. The class: live before interactive before batch.
3. Within a class, the submitter who has received the least time. A new submitter starts level with the one who has
   received the least among those present, so that it neither waits for the past of others nor overtakes them for long.
4. Of one submitter, the request that has received the least time, so that short ones end early; of equal ones, those
   that have not begun, whose batches could then be shared, and the oldest.

If batches may be shared, free places in the chosen batch go to items of other requests with an equal key, in the same
order.
"""

from __future__ import annotations

import contextvars
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from careca.errors import Cancelled
from careca.inference.engine import Batch, Event, Work
from careca.types import Scheduling, SchedulingClass

PATIENCE = 8
"""Steps for each request in hand that a request waits at most before it goes first."""


@dataclass(frozen=True, slots=True)
class Started:
    """The first step of a request."""


@dataclass(frozen=True, slots=True)
class Step:
    """One batch. The request that was chosen for it gets this value."""

    scheduling_class: SchedulingClass
    items: int
    requests: int
    """How many requests took part."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a request, with its result or its error."""

    value: Any = None
    error: Exception | None = None
    seconds: float = 0.0
    """Time of the device that the request received; of a shared batch, the part of its items."""
    waited_seconds: float = 0.0
    """Time in which the device worked for others."""
    scheduling_class: SchedulingClass = SchedulingClass.INTERACTIVE


Occurrence: TypeAlias = Event | Started | Step | Ended


@dataclass(slots=True, eq=False)
class _Request:
    number: int
    work: Work[Any]
    scheduling: Scheduling
    context: contextvars.Context
    added: float
    seconds: float = 0.0
    waited_steps: int = 0
    started: bool = False
    batch: Batch | None = None
    results: list[Any] = field(default_factory=list)

    @property
    def account(self) -> tuple[SchedulingClass, str]:
        return self.scheduling.scheduling_class, self.scheduling.submitter


class Scheduler:
    """The requests in hand. Call all methods from one thread.

    Args:
        share: whether items of several requests may be computed in one batch.
        clock: returns the time in seconds.
    """

    def __init__(self, *, share: bool, clock: Callable[[], float]) -> None:
        self._share = share
        self._clock = clock
        self._requests: dict[int, _Request] = {}
        self._received: dict[tuple[SchedulingClass, str], float] = {}
        """Seconds by class and submitter, of those with requests in hand."""
        self._exclusive: _Request | None = None
        self._occurrences: list[tuple[int, Occurrence]] = []

    def __len__(self) -> int:
        return len(self._requests)

    def add(
        self, number: int, work: Work[Any], scheduling: Scheduling, context: contextvars.Context | None = None
    ) -> None:
        """Takes a request in hand. ``number`` must be new; ``work`` runs in ``context``, for logs and traces."""
        request = _Request(number, work, scheduling, context or contextvars.Context(), self._clock())
        self._requests[number] = request
        peers = [seconds for (peer, _), seconds in self._received.items() if peer is scheduling.scheduling_class]
        self._received.setdefault(request.account, min(peers, default=0.0))

    def cancel(self, number: int) -> Ended | None:
        """Closes the work of a request. Returns its end, or ``None`` if the request is not in hand any more."""
        request = self._requests.get(number)
        if request is None:
            return None
        try:
            request.context.run(request.work.close)
        except Exception as error:  # noqa: BLE001 - it is the answer to this request
            return self._remove(request, error=error)
        return self._remove(request, error=Cancelled("the work was cancelled"))

    def step(self) -> list[tuple[int, Occurrence]]:
        """Computes one batch, or the beginning of a new request. Returns what occurred, with the requests' numbers.

        Does nothing if there is no request.
        """
        if not self._requests:
            return []
        chosen = self._exclusive or self._in_order()[0]
        for request in self._requests.values():
            request.waited_steps += 1
        if chosen.batch is None:
            self._begin(chosen)
        else:
            self._compute(chosen, chosen.batch)
        occurrences, self._occurrences = self._occurrences, []
        return occurrences

    def _in_order(self) -> list[_Request]:
        """Returns all requests, the one to choose first."""
        limit = PATIENCE * len(self._requests)

        def rank(request: _Request) -> tuple[Any, ...]:
            if request.waited_steps >= limit:
                return (0, -request.waited_steps, request.number)
            received = self._received[request.account]
            return (1, request.account[0], received, request.seconds, request.started, request.number)

        return sorted(self._requests.values(), key=rank)

    def _begin(self, request: _Request) -> None:
        request.waited_steps = 0
        request.started = True
        self._occurrences.append((request.number, Started()))
        self._resume(request, lambda: request.work.send(None))

    def _compute(self, chosen: _Request, batch: Batch) -> None:
        parts = list(self._parts(chosen, batch))
        for request, _ in parts:
            request.waited_steps = 0
        count = sum(len(items) for _, items in parts)
        began, failure = self._clock(), None
        results: Sequence[Any] = ()
        try:
            results = chosen.context.run(_results, batch, [item for _, items in parts for item in items])
        except Exception as error:  # noqa: BLE001 - it is the answer to the request at fault
            failure = error
        seconds = self._clock() - began
        self._charge(parts, seconds)
        self._occurrences.append((chosen.number, Step(chosen.account[0], count, len(parts), seconds)))
        if failure:
            if len(parts) == 1:
                self._fail(chosen, failure)
            else:
                traceback.clear_frames(failure.__traceback__)
                self._compute_apart(batch, parts)
            return
        first = 0
        for request, items in parts:
            self._deliver(request, results[first : first + len(items)])
            first += len(items)

    def _parts(self, chosen: _Request, batch: Batch) -> Iterator[tuple[_Request, Sequence[Any]]]:
        """Yields the requests that take part in the batch of ``chosen``, each with its items."""
        room = batch.most
        others = self._in_order() if self._share and room > 1 else []
        for request in [chosen, *(other for other in others if other is not chosen)]:
            if room and request.batch is not None and (request is chosen or request.batch.key == batch.key):
                items = request.batch.items[len(request.results) :][:room]
                room -= len(items)
                yield request, items

    def _compute_apart(self, batch: Batch, parts: Sequence[tuple[_Request, Sequence[Any]]]) -> None:
        """Computes the items of each request alone, after a shared batch failed."""
        for request, items in parts:
            began = self._clock()
            try:
                results = request.context.run(_results, batch, items)
            except Exception as error:  # noqa: BLE001 - it is the answer to this request
                self._charge([(request, items)], self._clock() - began)
                self._fail(request, error)
            else:
                self._charge([(request, items)], self._clock() - began)
                self._deliver(request, results)

    def _deliver(self, request: _Request, results: Sequence[Any]) -> None:
        """Resumes the work of a request as soon as all items of its batch have results."""
        request.results += results
        if request.batch and len(request.results) == len(request.batch.items):
            self._resume(request, lambda: request.work.send(request.results))

    def _fail(self, request: _Request, error: Exception) -> None:
        self._resume(request, lambda: request.work.throw(error))

    def _resume(self, request: _Request, resume: Callable[[], Event | Batch]) -> None:
        """Runs the work of a request up to its next batch or to its end."""
        was, request.batch = request.batch, None
        began = self._clock()
        try:
            asked = request.context.run(resume)
            while not isinstance(asked, Batch):
                self._occurrences.append((request.number, asked))
                asked = request.context.run(request.work.send, None)
        except StopIteration as stop:
            self._charge([(request, (None,))], self._clock() - began)
            self._occurrences.append((request.number, self._remove(request, value=stop.value)))
        except Exception as error:  # noqa: BLE001 - it is the answer to this request
            self._charge([(request, (None,))], self._clock() - began)
            self._occurrences.append((request.number, self._remove(request, error=error)))
        else:
            self._charge([(request, (None,))], self._clock() - began)
            request.batch, request.results = asked, []
            self._exclusive = request if was is not None and was.exclusive else None

    def _charge(self, parts: Sequence[tuple[_Request, Sequence[Any]]], seconds: float) -> None:
        count = sum(len(items) for _, items in parts)
        for request, items in parts:
            share = seconds * len(items) / count
            request.seconds += share
            self._received[request.account] += share

    def _remove(self, request: _Request, value: Any = None, error: Exception | None = None) -> Ended:
        del self._requests[request.number]
        if self._exclusive is request:
            self._exclusive = None
        if all(other.account != request.account for other in self._requests.values()):
            del self._received[request.account]
        waited = max(0.0, self._clock() - request.added - request.seconds)
        return Ended(value, error, request.seconds, waited, request.scheduling.scheduling_class)


def _results(batch: Batch, items: Sequence[Any]) -> Sequence[Any]:
    """Computes ``items``. Raises ``ValueError`` if there is not one result for each: requests would wait forever."""
    results = batch.compute(items)
    if len(results) != len(items):
        raise ValueError(f"a batch of {len(items)} items has {len(results)} results")
    return results
