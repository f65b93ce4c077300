"""Creates the transcription engine."""

from __future__ import annotations

import os
from typing import Protocol, overload

from careca.inference.audio import Audio
from careca.inference.engine import Engine, Work
from careca.models import ModelStore
from careca.types import ReadWindow, Transcript, TranscriptionOptions, WindowToRead
from careca_transcriber.settings import TranscriberSettings


class TranscriberEngine(Engine[TranscriptionOptions, Transcript], Protocol):
    """Transcribes audio; yields each segment when it is finished, and progress. It also reads windows of live audio."""

    @overload
    def infer(self, audio: Audio, options: TranscriptionOptions) -> Work[Transcript]: ...

    @overload
    def infer(self, audio: Audio, options: WindowToRead) -> Work[ReadWindow]: ...


def build_engine(settings: TranscriberSettings) -> TranscriberEngine:
    """Returns the engine for ``settings``, in this process."""
    # ONNX Runtime, which detects speech, sends usage data to its makers unless this is set before its import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # Imported late: the parent process does not need CTranslate2.
    from careca_transcriber.whisper_engine import WhisperEngine

    return WhisperEngine(settings, ModelStore(settings.models_dir))
