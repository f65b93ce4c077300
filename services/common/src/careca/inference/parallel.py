"""Divides a batch among threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Any, Protocol, TypeVar

R = TypeVar("R")


class _Divisible(Protocol):
    """Items that can be cut into parts: a sequence, or an array by its first dimension."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


B = TypeVar("B", bound=_Divisible)


class Threads:
    """Threads that compute the parts of a batch at the same time.

    Args:
        count: their number, at least 1. With one thread, the calling thread computes.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="careca-batch") if count > 1 else None

    def compute(self, function: Callable[[B], Sequence[R]], items: B) -> list[R]:
        """Returns the results of ``function`` for ``items``, in order: it gets one part of them in each thread.

        Raises the error of the first part that failed, when all have ended.
        """
        parts = min(self.count, len(items))
        if self._pool is None or parts <= 1:
            return list(function(items))
        limits = [len(items) * part // parts for part in range(parts + 1)]
        running = [self._pool.submit(function, items[start:end]) for start, end in pairwise(limits)]
        wait(running)
        return [result for part in running for result in part.result()]
