"""What all tables have in common."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

NONE = "-"
"""Stands in a cell without a value."""


def create_table(*headers: str) -> Table:
    """Returns an empty table. In a narrow terminal its cells wrap and lose nothing."""
    return Table(
        *(Column(header, overflow="fold") for header in headers), box=SIMPLE_HEAD, show_edge=False, pad_edge=False
    )


def format_unix(unix: float | None) -> str:
    """Formats a time, in seconds since 1970, in this machine's time zone."""
    return NONE if unix is None else datetime.fromtimestamp(unix, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
