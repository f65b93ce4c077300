"""Notices as people read them."""

from __future__ import annotations

from careca.clock import clock
from careca.types import Notice


def as_line(notice: Notice) -> str:
    """One line: the code, the place where there is one, and the sentence."""
    where = "" if notice.start is None else f" [{clock(notice.start)} - {clock(notice.end or notice.start)}]"
    return " ".join(f"notice {notice.code}{where}: {notice.message}".split())
