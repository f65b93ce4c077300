"""Runs the command ``careca``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

CARECA = [sys.executable, "-c", "from careca_client.cli import main; main()"]
"""Starts the command in a process of its own."""

Careca = Callable[..., Result]
"""Runs the command in this process."""


def recording(path: Path) -> Path:
    """Writes a file that a scripted gateway accepts as a recording."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"RIFF of " + str(path).encode())
    return path


def read_until(terminal: int, wanted: bytes | None) -> bytes:
    """Reads from a terminal until ``wanted`` comes or the terminal is closed, which Linux reports as an error."""
    shown = b""
    while wanted is None or wanted not in shown:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    return shown
