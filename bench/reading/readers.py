"""The two programs that read: Careca's transcriber and faster-whisper's batched pipeline."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.common import audio
from bench.common.answering import AnsweringProcess
from careca.inference.audio import Audio
from careca.inference.engine_process import EngineProcess
from careca.inference.shared_engine import CancelToken
from careca.models import ModelStore
from careca.resources.processors import disable_openmp_spinning, usable_processors
from careca.types import Scheduling, Transcript, TranscriptionOptions
from careca_transcriber.engine import build_engine
from careca_transcriber.settings import TranscriberSettings


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, and in how many seconds."""

    seconds: float
    words: int
    text: str


class Reader(Protocol):
    """A program that reads."""

    def read(self, recording: Audio, beam_size: int) -> Reading:
        """Reads ``recording``, whose language it finds itself. The loading of the model is not in the seconds."""


class Careca:
    """The transcriber's engine, in its process, as the service runs it."""

    def __init__(self, engine: EngineProcess[TranscriptionOptions, Transcript]) -> None:
        self._engine = engine

    def read(self, recording: Audio, beam_size: int) -> Reading:
        """See ``Reader``."""
        started = time.perf_counter()
        options = TranscriptionOptions(beam_size=beam_size)
        transcript = self._engine.infer(recording, options, Scheduling(), CancelToken(), lambda _: None).result
        seconds = time.perf_counter() - started
        text = " ".join(segment.text for segment in transcript.segments)
        return Reading(seconds, sum(len(segment.words) for segment in transcript.segments), text)


class Peer:
    """faster-whisper's batched pipeline: `peer_process.py`."""

    def __init__(self, process: AnsweringProcess) -> None:
        self._process = process

    def read(self, recording: Audio, beam_size: int) -> Reading:
        """See ``Reader``."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "recording.wav"
            audio.write_wav(recording.samples, path)
            return Reading(**self._process.ask({"recording": str(path), "beam_size": str(beam_size)}))


@contextmanager
def loaded_readers() -> Iterator[tuple[Careca, Peer]]:
    """Both, with the same model and as many threads, loaded; ends their processes on leaving."""
    environment = dict(os.environ)
    disable_openmp_spinning()  # as the service does; the peer's environment stays as it is
    settings = TranscriberSettings(device="cpu")
    engine: EngineProcess[TranscriptionOptions, Transcript] = EngineProcess(build_engine, settings)
    folder = ModelStore(settings.models_dir).verify(settings.whisper_model)
    command: list[str | Path] = [sys.executable, "-m", "bench.reading.peer_process", folder, str(usable_processors())]
    try:
        engine.load()
        with AnsweringProcess(command, environment) as process:
            yield Careca(engine), Peer(process)
    finally:
        engine.unload()
