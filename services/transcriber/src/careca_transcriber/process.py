"""The transcription engine in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable

from careca.inference.audio import Audio
from careca.inference.engine import CancelToken
from careca.inference.engine_process import EngineProcess, Recipe
from careca.models import ModelStore
from careca.types import Progress, Segment, Transcript, TranscriptionOptions
from careca_transcriber.engine import TranscriberEngine
from careca_transcriber.settings import TranscriberSettings


class TranscriberProcess(EngineProcess):
    """A ``TranscriberEngine`` that ends its process to unload."""

    def __init__(self, settings: TranscriberSettings) -> None:
        """Starts the process. Raises what making the engine raises."""
        super().__init__(Recipe(build_engine, settings))

    def transcribe(
        self,
        audio: Audio,
        options: TranscriptionOptions,
        cancel: CancelToken,
        emit: Callable[[Segment | Progress], None],
    ) -> Transcript:
        """Writes down what is said: see ``TranscriberEngine``."""
        transcript: Transcript = self.infer("transcribe", audio, options, cancel=cancel, emit=emit)
        return transcript


def build_engine(settings: TranscriberSettings) -> TranscriberEngine:
    """The engine that ``settings`` ask for, in this process."""
    # ONNX Runtime, which finds speech, reports to its makers where it is not told otherwise before it is imported.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # Late: the service itself has no need of CTranslate2.
    from careca_transcriber.whisper_engine import WhisperEngine

    return WhisperEngine(settings, ModelStore(settings.models_dir))
