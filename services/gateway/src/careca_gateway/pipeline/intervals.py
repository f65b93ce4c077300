"""Sets of time: spans that cover them. Pure functions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple


class Span(NamedTuple):
    """The time from ``start`` to ``end``, in seconds."""

    start: float
    end: float


def union(several: Iterable[Span]) -> list[Span]:
    """Returns spans that cover the same time and neither overlap nor touch, by start."""
    joined: list[Span] = []
    for span in sorted(several):
        if joined and span.start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined


def subtract(spans: Iterable[Span], removed: Sequence[Span]) -> list[Span]:
    """Returns the parts of ``spans`` that are not in ``removed``, which is a union, in the order of ``spans``."""
    left: list[Span] = []
    for span in spans:
        start = span.start
        for index in range(bisect_right(removed, start, key=attrgetter("end")), len(removed)):
            if removed[index].start >= span.end:
                break
            if removed[index].start > start:
                left.append(Span(start, removed[index].start))
            start = removed[index].end
        if start < span.end:
            left.append(Span(start, span.end))
    return left


def intersect(some: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """Returns the time that is in both unions."""
    return subtract(some, subtract(some, others))
