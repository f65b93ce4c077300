"""Benchmarks in parts: each part reports limits that are met or not, and tables; a whole run updates a document."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.common.harness import announce
from bench.common.tables import seconds, splice, table


@dataclass
class Report:
    """What a part found: rows of limits that are met or not, and tables that show how."""

    rows: list[list[str]] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)

    def limit(self, what: str, limit: str, measured: str, *, met: bool) -> None:
        """Adds a row."""
        self.rows.append([what, limit, measured, "yes" if met else "NO"])
        announce(f"{what}: {measured} (limit {limit}) {'yes' if met else 'NO'}")

    def at_most(self, what: str, limit: float, value: float | None) -> None:
        """Adds a row about seconds; nothing measured is nothing met."""
        self.limit(what, seconds(limit), seconds(value), met=value is not None and value <= limit)


Part = Callable[[Report], Coroutine[Any, Any, None]]
"""Measures one thing."""


def measure(parts: Mapping[str, Part], usage: str, document: Path, mark: str) -> int:
    """Runs the parts that the command line names and prints what they found; all of them update ``document``."""
    parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *parts], metavar="part", help=f"of {', '.join(parts)}")
    arguments = parser.parse_args()
    report, began = Report(), time.monotonic()
    for name in arguments.parts or parts:
        announce(f"== {name} after {time.monotonic() - began:.0f} s")
        asyncio.run(parts[name](report))
    wall = f"Measured {datetime.now(UTC):%Y-%m-%d}, in {(time.monotonic() - began) / 60:.0f} minutes."
    text = "\n\n".join([wall, table(["", "limit", "measured", "met"], report.rows), *report.tables])
    print(text)
    if not arguments.parts:
        document.write_text(splice(document.read_text(encoding="utf-8"), text, mark=mark), encoding="utf-8")
    return 0
