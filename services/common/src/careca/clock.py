"""Times of a recording as people read them."""

from __future__ import annotations


def clock(seconds: float, point: str = ".") -> str:
    """``hh:mm:ss.mmm`` with the given decimal point."""
    total, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{total // 3600:02d}:{total // 60 % 60:02d}:{total % 60:02d}{point}{milliseconds:03d}"
