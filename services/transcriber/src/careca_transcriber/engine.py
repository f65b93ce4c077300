"""Creates the transcription engine."""

from __future__ import annotations

import os
from typing import TypeAlias

from careca.inference.engine import Engine
from careca.models import ModelStore
from careca.types import Transcript, TranscriptionOptions
from careca_transcriber.settings import TranscriberSettings

TranscriberEngine: TypeAlias = Engine[TranscriptionOptions, Transcript]
"""Transcribes audio; emits each segment when it is finished, and progress in between."""


def build_engine(settings: TranscriberSettings) -> TranscriberEngine:
    """Returns the engine for ``settings``, in this process."""
    # ONNX Runtime, which detects speech, sends usage data to its makers unless this is set before its import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # Imported late: the parent process does not need CTranslate2.
    from careca_transcriber.whisper_engine import WhisperEngine

    return WhisperEngine(settings, ModelStore(settings.models_dir))
