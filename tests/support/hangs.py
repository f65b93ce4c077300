"""Says what the tasks of a test wait for if the test hangs.

pytest-timeout prints the stacks of threads. The thread of an event loop only shows that the loop waits.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import types
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from support.waiting import HANG_SECONDS

_REPORT_SECONDS = HANG_SECONDS + 30.0
"""By then, everything that a test waits for with a limit has happened or failed."""

_OURS = ("careca", "/tests/")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Adds the report to the failure of a test that hangs."""
    timer = threading.Timer(_REPORT_SECONDS, lambda: item.add_report_section("call", "tasks", waiting_tasks()))
    timer.daemon = True
    timer.start()
    try:
        return (yield)
    finally:
        timer.cancel()


def waiting_tasks() -> str:
    """One line for each coroutine and asynchronous generator of ours that waits, with its file and line."""
    return "\n".join(sorted(_waiting_frames()))


def _waiting_frames() -> Iterator[str]:
    for each in gc.get_objects():
        frame = _frame(each)
        if frame is not None and any(part in frame.f_code.co_filename for part in _OURS):
            yield f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname} awaits {_awaited(each)!r}"


def _frame(each: Any) -> types.FrameType | None:
    if isinstance(each, types.CoroutineType):
        return each.cr_frame
    if isinstance(each, types.AsyncGeneratorType):
        frame: types.FrameType | None = each.ag_frame
        return frame
    return None


def _awaited(each: Any) -> object:
    awaited: object = each.cr_await if isinstance(each, types.CoroutineType) else each.ag_await
    return awaited if not isinstance(awaited, asyncio.Future) else type(awaited).__name__
