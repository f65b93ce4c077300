"""Creates the diarization engine."""

from __future__ import annotations

from typing import TypeAlias

from careca.inference.engine import Engine
from careca.models import ModelStore
from careca.types import Diarization, DiarizationOptions
from careca_diarizer.settings import DiarizerSettings

DiarizerEngine: TypeAlias = Engine[DiarizationOptions, Diarization]
"""Finds who spoke when; emits progress."""


def build_engine(settings: DiarizerSettings) -> DiarizerEngine:
    """Returns the engine for ``settings``, in this process."""
    # Imported late: the parent process does not need torch.
    from careca_diarizer.pretrained_engine import PretrainedPipelineEngine
    from careca_diarizer.pyannote_engine import PyannoteEngine

    engine = PretrainedPipelineEngine if settings.pipeline else PyannoteEngine
    return engine(settings, ModelStore(settings.models_dir))
