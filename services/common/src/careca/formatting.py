"""Values as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if (
    TYPE_CHECKING
):  # the decoder's process uses this module, and importing all types would make each of its starts slower
    from careca.types import Notice


def format_time(seconds: float, point: str = ".") -> str:
    """A time in a recording as ``hh:mm:ss.mmm``, with ``point`` as the decimal separator."""
    total, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{total // 3600:02d}:{total // 60 % 60:02d}:{total % 60:02d}{point}{milliseconds:03d}"


def format_notice(notice: Notice) -> str:
    """A notice as one line: its code, its time range if it has one, and its message."""
    times = " - ".join(format_time(time) for time in (notice.start, notice.end) if time is not None)
    place = f" [{times}]" if times else ""
    return " ".join(f"notice {notice.code}{place}: {notice.message}".split())


def printable(text: str) -> str:
    """Escapes what a terminal would act on, such as escape sequences and line breaks, in a name from a stranger."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
