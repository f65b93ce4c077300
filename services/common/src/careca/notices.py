"""Notices as people read them."""

from __future__ import annotations

from careca.clock import clock
from careca.types import Notice


def as_line(notice: Notice) -> str:
    """One line: the code, the place where there is one, and the sentence."""
    times = [clock(time) for time in (notice.start, notice.end) if time is not None]
    where = f" [{' - '.join(times)}]" if times else ""
    return " ".join(f"notice {notice.code}{where}: {notice.message}".split())
