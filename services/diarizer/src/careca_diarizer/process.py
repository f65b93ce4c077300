"""The diarization engine in a process of its own."""

from __future__ import annotations

from collections.abc import Callable

from careca.inference.audio import Audio
from careca.inference.engine import CancelToken
from careca.inference.engine_process import EngineProcess, Recipe
from careca.models import ModelStore
from careca.types import Diarization, DiarizationOptions, Progress
from careca_diarizer.engine import DiarizerEngine
from careca_diarizer.settings import DiarizerSettings


class DiarizerProcess(EngineProcess):
    """A ``DiarizerEngine`` that ends its process to unload."""

    def __init__(self, settings: DiarizerSettings) -> None:
        """Starts the process. Raises what making the engine raises."""
        super().__init__(Recipe(build_engine, settings))

    def diarize(
        self, audio: Audio, options: DiarizationOptions, cancel: CancelToken, emit: Callable[[Progress], None]
    ) -> Diarization:
        """Finds who spoke when: see ``DiarizerEngine``."""
        found: Diarization = self.infer("diarize", audio, options, cancel=cancel, emit=emit)
        return found


def build_engine(settings: DiarizerSettings) -> DiarizerEngine:
    """The engine that ``settings`` ask for, in this process."""
    # Late: the service itself has no need of torch.
    from careca_diarizer.pretrained_engine import PretrainedPipelineEngine
    from careca_diarizer.pyannote_engine import PyannoteEngine

    engine = PretrainedPipelineEngine if settings.pipeline else PyannoteEngine
    return engine(settings, ModelStore(settings.models_dir))
