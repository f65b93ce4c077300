"""`make up`: the one-machine stack in the foreground, until Ctrl-C, SIGTERM or `make down`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from local_stack import LocalStack, Ports, StackError

CALL_IT = """
Careca is up. In a browser: http://localhost:{web}. From another terminal:

    .venv/bin/careca transcribe RECORDING          who said what, and when
    .venv/bin/careca submit RECORDING ...          the same as jobs, which outlive everything
    .venv/bin/careca jobs list                     what became of them
    .venv/bin/careca stats                         caches and memory
    curl -s localhost:{gateway_metrics}/metrics            the gateway's metrics

The transcriber's metrics are on port {transcriber_metrics}, the diarizer's on {diarizer_metrics}, and the web service's
on {web_metrics}.

Data and the logs of both Redis are in {root}.
Stop with Ctrl-C, or `make down` from elsewhere.
"""


def main() -> int:
    """Runs the stack; returns 0 when asked to stop, 1 when a part could not start or ended by itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(".careca"), help="folder for data and logs")
    root = parser.parse_args().root.resolve()
    signal.signal(signal.SIGTERM, _interrupt)
    stack = LocalStack(root, ports=Ports.default(), web=True, logs_to_terminal=True, announce=_announce)
    try:
        with stack:
            (root / "up.pid").write_text(str(os.getpid()))
            _announce(CALL_IT.format(root=root, **vars(stack.ports)))
            ended = stack.wait()
            _announce(f"{ended} ended by itself; stopping the rest")
            return 1
    except StackError as error:
        _announce(f"cannot start: {error}")
        return 1
    except KeyboardInterrupt:
        _announce("stopped")
        return 0
    finally:
        (root / "up.pid").unlink(missing_ok=True)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _announce(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
