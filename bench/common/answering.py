"""A process beside this one that answers each line of JSON on its standard input with one on its standard output."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench import REPOSITORY


class AnsweringProcess:
    """The process of ``command``, with this one's environment unless there is another.

    It answers ``{}`` once it is ready: entering waits for that, leaving ends the process.
    """

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        self._command = command
        self._environment = environment

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        self.ask({})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def ask(self, request: Mapping[str, str]) -> dict[str, Any]:
        """The answer to ``request``. Raises ``RuntimeError`` where the process ended instead."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._command[-1]} ended; its messages are above")
        answer: dict[str, Any] = json.loads(line)
        return answer
