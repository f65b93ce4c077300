"""`make down`: ends a stack that `make up` started, and waits until it is gone."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import psutil

WAIT_SECONDS = 60.0


def main() -> int:
    """Returns 0 when nothing runs any more, 1 when something would not end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(".careca"), help="folder that `make up` was given")
    running = _running(parser.parse_args().root)
    if not running:
        print("nothing is running")
        return 0
    # The first is `make up` itself, where it still runs, and ends the others in order.
    for process in running[:1] if _is_up(running[0]) else running:
        process.terminate()
    _, left = psutil.wait_procs(running, timeout=WAIT_SECONDS)
    if left:
        print(f"still running after {WAIT_SECONDS:.0f} s: {[process.pid for process in left]}", file=sys.stderr)
        return 1
    print("stopped")
    return 0


def _running(root: Path) -> list[psutil.Process]:
    up, parts = root / "up.pid", root / "pids.json"
    pids = [int(up.read_text())] if up.exists() else []
    pids += json.loads(parts.read_text()).values() if parts.exists() else []
    return [process for pid in pids if (process := _ours(pid))]


def _ours(pid: int) -> psutil.Process | None:
    """The process, if it runs and is one of the stack's: its number may have been given to somebody else since."""
    try:
        process = psutil.Process(pid)
        command = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return None
    return process if any(name in command for name in ("careca_", "redis-server", "up.py")) else None


def _is_up(process: psutil.Process) -> bool:
    return "up.py" in " ".join(process.cmdline())


if __name__ == "__main__":
    sys.exit(main())
