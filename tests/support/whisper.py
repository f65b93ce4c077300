"""Whisper engines for tests that need the real one."""

from __future__ import annotations

from typing import Any

from careca_transcriber.settings import TranscriberSettings
from careca_transcriber.whisper_engine import WhisperEngine
from support.weights import model_store


def whisper(model: str, **settings: Any) -> WhisperEngine:
    """A Whisper engine on the CPU; skips the test if its weights are missing."""
    return WhisperEngine(TranscriberSettings(whisper_model=model, device="cpu", **settings), model_store(model))
