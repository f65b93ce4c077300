"""Results of batches that are kept for a later request, whose audio begins with the same audio.

A live session grows. Its recording is transcribed at the end, and most of that work can be done while people still
talk. So requests to prepare run as any other, and the result of each item of their batches is kept by the content of
the item. A later request takes the results that it needs, and computes the others. It has the same result as without
them: they are the same computations on the same audio.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from careca.inference.engine import Batch, Work

R = TypeVar("R")

MAX_BYTES = 128 * 1024 * 1024
"""Most bytes to keep: about three hours of sessions in all. The least recently used results are dropped first."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Options of a request whose batches' results are kept."""

    options: Any


class PreparedResults:
    """The results that are kept, by key and content. Not for several threads."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._results: OrderedDict[Hashable, tuple[tuple[Any, ...], int]] = OrderedDict()
        self.size_bytes = 0
        """The size of all results, as far as it is known from their serialized form."""

    def __len__(self) -> int:
        return len(self._results)

    def put(self, key: Hashable, results: tuple[Any, ...]) -> None:
        """Keeps the results, at least one, of items that were computed together."""
        self.take(key)
        size = len(pickle.dumps(results, protocol=pickle.HIGHEST_PROTOCOL))
        self._results[key] = (results, size)
        self.size_bytes += size
        while self.size_bytes > self._max_bytes:
            _, (_, oldest) = self._results.popitem(last=False)
            self.size_bytes -= oldest

    def look_up(self, key: Hashable) -> tuple[Any, ...]:
        """Returns the results; none if they are not kept."""
        if key not in self._results:
            return ()
        self._results.move_to_end(key)
        return self._results[key][0]

    def take(self, key: Hashable) -> tuple[Any, ...]:
        """Returns the results as ``look_up``, and keeps them no longer."""
        results, size = self._results.pop(key, ((), 0))
        self.size_bytes -= size
        return results


def with_prepared(work: Work[R], prepared: PreparedResults, *, keep: bool) -> Work[R | None]:
    """Returns ``work`` with the results in ``prepared`` for its batches' items that have an identity.

    With ``keep``, results are kept for later requests; otherwise those that are used are dropped. With ``keep``, the
    work ends with ``None`` at the first batch with an item that is not settled: later requests have another one.
    """
    resume: Callable[[], Any] = partial(work.send, None)
    try:
        while True:
            try:
                asked = resume()
            except StopIteration as stop:
                value: R = stop.value
                return value
            has_identity = isinstance(asked, Batch) and asked.identity is not None
            try:
                results = (yield from _found_or_computed(asked, prepared, keep=keep)) if has_identity else (yield asked)
            except Exception as error:  # noqa: BLE001 - the work gets it where it asked
                resume = partial(work.throw, error)
            else:
                if has_identity and results is None:
                    return None
                resume = partial(work.send, results)
    finally:
        work.close()


def _found_or_computed(batch: Batch, prepared: PreparedResults, *, keep: bool) -> Work[Sequence[Any] | None]:
    """Returns the results for ``batch``. Yields a batch of those items whose results are not kept.

    With ``keep``, items that are not settled are not computed, and the result is ``None`` if there are any.
    """
    assert batch.identity is not None  # noqa: S101 - for the type checker
    identities = [batch.identity(item) for item in batch.items]
    groups = [batch.items] if batch.together else [[item] for item in batch.items]
    keys = [(batch.key, *identities)] if batch.together else [(batch.key, identity) for identity in identities]
    found = [prepared.look_up(key) if keep else prepared.take(key) for key in keys]
    wanted = [not known and (not keep or _is_settled(batch, group)) for group, known in zip(groups, found, strict=True)]
    missing = [item for group, is_wanted in zip(groups, wanted, strict=True) if is_wanted for item in group]
    computed = iter((yield replace(batch, items=missing)) if missing else ())
    all_results: list[Any] = []
    complete = True
    for key, group, known, is_wanted in zip(keys, groups, found, wanted, strict=True):
        results = tuple(next(computed) for _ in group) if is_wanted else known
        if keep and is_wanted:
            prepared.put(key, results)
        complete = complete and bool(results)
        all_results += results
    return all_results if complete else None


def _is_settled(batch: Batch, items: Sequence[Any]) -> bool:
    return batch.settled is None or all(map(batch.settled, items))
