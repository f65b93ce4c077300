"""A model service without a model, whose tasks take a set time: to measure everything around the models.

    CARECA_TIMED_SECONDS=0.5 CARECA_TIMED_LOG=tasks.txt python bench/common/timed_service.py transcriber

Its log has a line for each task, when it began and ended on the clock that all processes of a machine share.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from careca.inference.audio import Audio
from careca.inference.engine import CancelToken, Emit
from careca.launch import run_service
from careca.rpc.server import Service
from careca.types import (
    Diarization,
    DiarizationOptions,
    GpuMemory,
    Progress,
    Segment,
    Stage,
    Transcript,
    TranscriptionOptions,
    Turn,
    Word,
)
from careca_diarizer.settings import DiarizerSettings
from careca_diarizer.wiring import wire as wire_diarizer
from careca_transcriber.settings import TranscriberSettings
from careca_transcriber.wiring import wire as wire_transcriber

SECONDS = "CARECA_TIMED_SECONDS"
LOG = "CARECA_TIMED_LOG"

_STEP_SECONDS = 0.02


class TimedEngine:
    """Takes its time and finds the same in everything."""

    model = "timed@000000000000"
    device = "cpu"
    loaded = True

    def __init__(self) -> None:
        self._seconds = float(os.environ.get(SECONDS, "1.0"))
        self._log = Path(os.environ[LOG]) if LOG in os.environ else None

    def load(self) -> None:
        """There is nothing to load."""

    def unload(self) -> None:
        """There is nothing to unload."""

    def gpu_memory(self) -> GpuMemory:
        return GpuMemory()

    def release_gpu_cache(self) -> None:
        """There is none."""

    def _take_time(self, stage: Stage, cancel: CancelToken, emit: Callable[[Progress], None]) -> None:
        began = time.monotonic()
        while (passed := time.monotonic() - began) < self._seconds:
            cancel.raise_if_cancelled()
            emit(Progress(stage, passed / self._seconds))
            time.sleep(min(_STEP_SECONDS, self._seconds - passed))
        if self._log:
            with self._log.open("a") as file:
                file.write(f"{began:.6f} {time.monotonic():.6f}\n")


class TimedTranscriber(TimedEngine):
    """Finds one word in everything."""

    def infer(self, audio: Audio, options: TranscriptionOptions, cancel: CancelToken, emit: Emit) -> Transcript:
        self._take_time(Stage.TRANSCRIBE, cancel, emit)
        word = Word("word", 0.0, min(1.0, audio.duration), 1.0)
        segment = Segment(0.0, min(1.0, audio.duration), "word", (word,))
        emit(segment)
        return Transcript((segment,), "en", 1.0, audio.duration, self.model)


class TimedDiarizer(TimedEngine):
    """Finds one speaker in everything."""

    def infer(self, audio: Audio, options: DiarizationOptions, cancel: CancelToken, emit: Emit) -> Diarization:
        self._take_time(Stage.DIARIZE, cancel, emit)
        turns = (Turn(0.0, audio.duration, "SPEAKER_00"),)
        return Diarization(turns, turns, audio.duration, self.model)


def _transcriber(settings: TranscriberSettings) -> Service:
    return wire_transcriber(settings, TimedTranscriber())


def _diarizer(settings: DiarizerSettings) -> Service:
    return wire_diarizer(settings, TimedDiarizer())


if __name__ == "__main__":
    service = sys.argv.pop(1)
    if service == "transcriber":
        run_service(service, TranscriberSettings, _transcriber)
    else:
        run_service(service, DiarizerSettings, _diarizer)
