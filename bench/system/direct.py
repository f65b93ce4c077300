"""Both engines called directly, in a process beside the stack: what the gateway path is compared with."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.common.answering import AnsweringProcess


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of each engine, computing at the same time, and until both were through."""

    whole: float
    transcribe: float
    diarize: float


class DirectEngines(AnsweringProcess):
    """The process that holds both engines: `direct_process.py`, with the ``environment`` of the services.

    It is one process, and not this one, so that settings and allocator are those that the services were started with.
    Entering waits until the models are loaded.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(
            [sys.executable, "-m", "bench.system.direct_process"], {**environment, "CARECA_LOG_LEVEL": "warning"}
        )

    def compute(self, recording: Path) -> Timing:
        """Transcribes and diarizes ``recording``; its decoding is not in the times."""
        return Timing(**self.ask({"recording": str(recording)}))
