"""Watches the work of an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from careca.inference.engine import Batch, Work

T = TypeVar("T")


def watched(work: Work[T], note: Callable[[object], object]) -> Work[T]:
    """The same work. Calls ``note`` with each event and each batch, before it is computed."""
    results: Any = None
    while True:
        try:
            asked = work.send(results)
        except StopIteration as stop:
            value: T = stop.value
            return value
        note(asked)
        results = yield asked


def kind_of(batch: Batch) -> object:
    """The first part of its key, which says what is computed."""
    return batch.key[0] if isinstance(batch.key, tuple) else batch.key
