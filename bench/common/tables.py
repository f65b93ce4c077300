"""Markdown and the ways in which the report writes numbers. An unknown number is a dash."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NOTHING = "-"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first are numbers, aligned to the right."""
    rule = ("---", *("---:" for _ in head[1:]))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def section(title: str, *parts: str) -> str:
    """A heading and what stands under it."""
    return "\n\n".join((f"### {title}", *parts))


def splice(document: str, text: str, *, mark: str = "bench") -> str:
    """``document`` with ``text`` between its two markers. Raises ``ValueError`` where they are not there."""
    begin, end = f"<!-- {mark}:begin -->", f"<!-- {mark}:end -->"
    before, found, rest = document.partition(begin)
    _old, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the document has no {begin} followed by {end}")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def rate(value: float | None) -> str:
    """A rate as a fraction: 0.123."""
    return NOTHING if value is None else f"{value:.3f}"


def count(right: int, of: int) -> str:
    """How many of how many."""
    return f"{right} of {of}"


def seconds(value: float | None) -> str:
    """Seconds with as many digits as say something."""
    if value is None:
        return NOTHING
    return f"{value:.1f} s" if value >= 10 else f"{value:.2f} s" if value >= 1 else milliseconds(value)


def milliseconds(value: float) -> str:
    """Seconds as milliseconds."""
    return f"{value * 1e3:.1f} ms"


def minutes(value: float) -> str:
    """Seconds as minutes: of audio, of waiting."""
    if value < 60:
        return f"{value:.0f} s"
    return f"{value / 60:g} min" if value % 60 == 0 else f"{value / 60:.1f} min"


def mebibytes(value: int) -> str:
    """Bytes as MiB."""
    return f"{value / 2**20:.0f} MiB"
