"""Both engines called directly, in a process beside the stack: what the gateway path is compared with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of each engine, computing at the same time, and until both were through."""

    whole: float
    transcribe: float
    diarize: float


class DirectEngines:
    """The process that holds both engines: `direct_process.py`, with the ``environment`` of the services.

    It is one process, and not this one, so that settings and allocator are those that the services were started with.
    Entering waits until the models are loaded, leaving ends the process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**environment, "CARECA_LOG_LEVEL": "warning"}

    def __enter__(self) -> DirectEngines:
        program = Path(__file__).with_name("direct_process.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program)],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask({})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def compute(self, recording: Path) -> Timing:
        """Transcribes and diarizes ``recording``; its decoding is not in the times."""
        return Timing(**self._ask({"recording": str(recording)}))

    def _ask(self, request: Mapping[str, str]) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the process with both engines ended; its messages are above")
        timing: dict[str, float] = json.loads(answer)
        return timing
