"""Both engines in one process without any service: what the gateway path is compared with.

Run as a program it answers, for each line of JSON on standard input (a path), with a line of JSON on standard output.
It is started with the environment of the services, so that settings, threads and allocator are theirs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from audio import decode
from careca.audio import Audio


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of the two engines, computing at the same time, and until both were through."""

    whole: float
    transcribe: float
    diarize: float


class DirectEngines:
    """A process that holds both engines. ``with`` waits until they are loaded and ends the process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> DirectEngines:
        self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def compute(self, recording: Path) -> Timing:
        """Transcribes and diarizes ``recording``; its decoding is not in the times."""
        self._pipe(self._process.stdin).write(json.dumps(str(recording)) + "\n")
        self._pipe(self._process.stdin).flush()
        return Timing(**json.loads(self._read()))

    def _read(self) -> str:
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise RuntimeError("the process with both engines ended; its messages are above")
        return line

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def main() -> None:
    """Loads both engines, says so, and answers until standard input ends."""
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # what libraries print must not end up among the answers
        compute = _load_engines()
        answers.write("ready\n")
        for line in sys.stdin:
            answers.write(json.dumps(asdict(compute(Audio(decode(Path(json.loads(line))))))) + "\n")


if __name__ == "__main__":
    main()
