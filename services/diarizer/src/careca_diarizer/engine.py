"""Creates the diarization engine."""

from __future__ import annotations

from typing import Protocol, overload

from careca.errors import PreconditionFailed
from careca.inference.audio import Audio
from careca.inference.engine import Engine, Work
from careca.models import ModelStore
from careca.types import (
    ClusteredVoices,
    Diarization,
    DiarizationOptions,
    DiarizedWindow,
    VoicesToCluster,
    WindowToDiarize,
)
from careca_diarizer.device import torch_installed
from careca_diarizer.settings import DiarizerSettings


class DiarizerEngine(Engine[DiarizationOptions, Diarization], Protocol):
    """Finds who spoke when; yields progress. It also diarizes windows of live audio and clusters their voices."""

    @overload
    def infer(self, audio: Audio, options: DiarizationOptions) -> Work[Diarization]: ...

    @overload
    def infer(self, audio: Audio, options: WindowToDiarize) -> Work[DiarizedWindow]: ...

    @overload
    def infer(self, audio: Audio, options: VoicesToCluster) -> Work[ClusteredVoices]: ...


def build_engine(settings: DiarizerSettings) -> DiarizerEngine:
    """Returns the engine for ``settings``, in this process.

    Raises ``PreconditionFailed`` if what it needs is not installed, or a pretrained pipeline is missing.
    """
    store = ModelStore(settings.models_dir)
    # Imported late: the parent process does not need networks, and Careca's own engine does not need torch on a CPU.
    if settings.pipeline:
        if not torch_installed():
            raise PreconditionFailed(
                "CARECA_PIPELINE needs torch and pyannote.audio: install careca-diarizer[pyannote], or use an image of "
                "the diarizer whose tag ends in -pyannote or -cuda",
                reason="PIPELINE_SUPPORT_NOT_INSTALLED",
            )
        from careca_diarizer.pretrained_engine import PretrainedPipelineEngine

        return PretrainedPipelineEngine(settings, store)
    from careca_diarizer.pyannote_engine import PyannoteEngine

    return PyannoteEngine(settings, store)
