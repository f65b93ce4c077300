"""Prometheus's own tool, for tests: found, or fetched."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import pytest

from monitoring.prometheus_tools import NoPrometheusError, find


@functools.cache
def _found(program: str) -> Path | str:
    try:
        return find(program)
    except NoPrometheusError as error:
        return str(error)


def program(name: str) -> Path:
    """Where ``promtool`` or ``prometheus`` is. Skips the test where it cannot be had at all, and says why."""
    found = _found(name)
    if isinstance(found, str):
        pytest.skip(found)
    return found


def promtool(*arguments: str | Path, text: bytes = b"", cwd: Path | None = None) -> str:
    """What promtool has to say, empty where it succeeds. A test that expects something compares it with that."""
    command = [program("promtool"), *arguments]
    done = subprocess.run(command, input=text, cwd=cwd, capture_output=True, check=False)
    return "" if done.returncode == 0 and not done.stderr else (done.stdout + done.stderr).decode()
