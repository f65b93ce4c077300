"""Calls both engines directly: answers each line of JSON on standard input with one on standard output.

``{}`` is answered once the models are loaded, ``{"recording": PATH}`` with the seconds that it took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.common.audio import decode
from careca.inference.audio import Audio
from careca.inference.engine import complete
from careca.models import ModelStore
from careca.resources.memory import use_one_heap
from careca.resources.processors import disable_openmp_spinning
from careca.settings import load
from careca.telemetry import logs
from careca.types import DiarizationOptions, TranscriptionOptions
from careca_diarizer.settings import DiarizerSettings
from careca_transcriber.settings import TranscriberSettings


class BothEngines:
    """Both engines, loaded, with the settings that the services have."""

    def __init__(self, transcribing: TranscriberSettings, diarizing: DiarizerSettings) -> None:
        from careca_diarizer.pyannote_engine import PyannoteEngine
        from careca_transcriber.whisper_engine import WhisperEngine

        self._transcriber = WhisperEngine(transcribing, ModelStore(transcribing.models_dir))
        self._diarizer = PyannoteEngine(diarizing, ModelStore(diarizing.models_dir))
        self._transcriber.load()
        self._diarizer.load()

    def compute(self, audio: Audio) -> dict[str, float]:
        """Seconds of each engine, each in a thread of its own, and until both were through."""
        started = time.perf_counter()
        with ThreadPoolExecutor(2) as threads:
            transcribe = threads.submit(_seconds, lambda: self._transcribe(audio))
            diarize = threads.submit(_seconds, lambda: self._diarize(audio))
            parts = {"transcribe": transcribe.result(), "diarize": diarize.result()}
        return {"whole": time.perf_counter() - started, **parts}

    def _transcribe(self, audio: Audio) -> object:
        return complete(self._transcriber.infer(audio, TranscriptionOptions()))

    def _diarize(self, audio: Audio) -> object:
        return complete(self._diarizer.infer(audio, DiarizationOptions()))


def main() -> None:
    """Answers until standard input ends."""
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # what libraries print must not end up among the answers
        settings = load(TranscriberSettings)
        logs.configure(settings.log_level, settings.log_format)
        disable_openmp_spinning()  # before the model libraries load, as the services do
        use_one_heap()
        engines = BothEngines(settings, load(DiarizerSettings))
        for line in sys.stdin:
            recording = json.loads(line).get("recording")
            answers.write(json.dumps(engines.compute(Audio(decode(Path(recording)))) if recording else {}) + "\n")


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _ignore(_event: object) -> None:
    """Takes what an engine tells on its way."""


if __name__ == "__main__":
    main()
