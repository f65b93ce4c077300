"""Runs a pretrained pipeline of pyannote.audio in place of Careca's own diarization, if a setting selects one.

Loading a pipeline runs code from its configuration and its checkpoints, so the operator must trust it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, overload

import numpy as np
import torch

from careca.errors import PreconditionFailed
from careca.inference.audio import Audio
from careca.inference.engine import Event, Work
from careca.models import ModelStore
from careca.telemetry.logs import get_logger
from careca.turns import exclusive_turns, renamed, speaker_names
from careca.types import (
    SAMPLE_RATE,
    ClusteredVoices,
    Diarization,
    DiarizationOptions,
    DiarizedWindow,
    GpuMemory,
    Progress,
    Speaker,
    Stage,
    Turn,
    VoicesToCluster,
    WindowToDiarize,
)
from careca_diarizer.pyannote_setup import import_pyannote
from careca_diarizer.settings import DiarizerSettings
from careca_diarizer.stepwise import in_steps
from careca_diarizer.torch_device import TorchDevice

_CONFIG = "config.yaml"

_SHARES = {"segmentation": (0.0, 0.3), "embeddings": (0.3, 0.95)}
"""The parts of the total progress for the steps that pyannote reports."""

_SHORT_DIGEST = 12

_log = get_logger(__name__)


class PretrainedPipelineEngine:
    """A ``DiarizerEngine`` with a pipeline of pyannote.audio, from a folder or a pulled repository."""

    def __init__(self, settings: DiarizerSettings, store: ModelStore) -> None:
        """Raises ``PreconditionFailed`` or ``NotFound`` if the pipeline of the settings is missing."""
        self._name = settings.pipeline
        self._store = store
        self._folder = store.path(self._name)
        self._device = TorchDevice(settings)
        self._pipeline: Any = None

    @cached_property
    def model(self) -> str:
        """The name of the pipeline, and a digest of all files in its folder."""
        label = self._folder.resolve().name if Path(self._name).expanduser().is_dir() else self._name
        return f"{label}@{_digest_of(self._folder)}"

    @property
    def device(self) -> str:
        """The device that computes, such as ``cpu`` or ``cuda:0``."""
        return str(self._device.torch)

    @property
    def loaded(self) -> bool:
        """Whether the pipeline is in memory."""
        return self._pipeline is not None

    @property
    def parallel_live(self) -> bool:
        """No: it does not diarize windows."""
        return False

    def load(self) -> None:
        """Loads the pipeline and runs it once; does nothing if it is loaded.

        Raises ``PreconditionFailed`` if the pipeline is missing or damaged, or the device is missing.
        """
        if self._pipeline:
            return
        folder = self._store.verify(self._name)
        if not (folder / _CONFIG).is_file():
            raise PreconditionFailed(
                f"{folder} is not a pyannote pipeline: it has no {_CONFIG}",
                reason="MODEL_INCOMPLETE",
                metadata={"model": self._name, "missing": _CONFIG},
            )
        self._device.prepare()
        pipeline = import_pyannote().Pipeline.from_pretrained(folder)
        with self._device.translated_errors():
            pipeline.to(self._device.torch)
            pipeline(_file(torch.zeros(1, SAMPLE_RATE)))
        self._pipeline = pipeline

    def unload(self) -> None:
        """Drops the pipeline."""
        self._pipeline = None

    def gpu_memory(self) -> GpuMemory:
        """The GPU memory in use now."""
        return self._device.memory()

    def release_gpu_cache(self) -> None:
        """Releases cached GPU memory."""
        self._device.release_cache()

    @overload
    def infer(self, audio: Audio, options: DiarizationOptions) -> Work[Diarization]: ...

    @overload
    def infer(self, audio: Audio, options: WindowToDiarize) -> Work[DiarizedWindow]: ...

    @overload
    def infer(self, audio: Audio, options: VoicesToCluster) -> Work[ClusteredVoices]: ...

    def infer(
        self, audio: Audio, options: DiarizationOptions | WindowToDiarize | VoicesToCluster
    ) -> Work[Diarization] | Work[DiarizedWindow] | Work[ClusteredVoices]:
        """Finds who spoke when. Raises ``PreconditionFailed`` for live audio, and if nothing is loaded.

        A pipeline has state while it runs, so that no other request is computed in the meantime.
        """
        return self._diarize(audio, options) if isinstance(options, DiarizationOptions) else _refuse_live_audio()

    def _diarize(self, audio: Audio, options: DiarizationOptions) -> Work[Diarization]:
        if not self._pipeline:
            raise PreconditionFailed("the pipeline is not loaded", reason="MODEL_NOT_LOADED")
        if not len(audio.samples):
            return Diarization((), (), 0.0, self.model)
        with self._device.translated_errors():
            output = yield from in_steps(lambda pause: self._run(audio, options, _Hook(pause)))
        yield Progress(Stage.DIARIZE, 1.0)
        return self._diarization(output, audio.duration)

    def _run(self, audio: Audio, options: DiarizationOptions, hook: _Hook) -> Any:
        """Returns the output of the pipeline. If it cannot find the requested number of speakers, it finds fewer.

        Some clusterings of pyannote raise ``ValueError`` if there are more clusters than embeddings.
        """
        least = options.speaker_count or options.min_speaker_count
        try:
            return self._pipeline(
                _file(torch.from_numpy(audio.float32())[None]),  # (1, samples)
                num_speakers=options.speaker_count,
                min_speakers=options.min_speaker_count,
                max_speakers=options.max_speaker_count,
                hook=hook,
            )
        except ValueError as error:
            if least is None:
                raise
            _log.warning("too little speech for the requested number of speakers", least=least, error=str(error))
            most = options.speaker_count or options.max_speaker_count
            return self._pipeline(_file(torch.from_numpy(audio.float32())[None]), max_speakers=most, hook=hook)

    def _diarization(self, output: Any, duration: float) -> Diarization:
        """Converts the output: one annotation or, since pyannote.audio 4, two annotations and the speakers' voices."""
        annotation = getattr(output, "speaker_diarization", output)
        voices = _unit_voices(annotation, getattr(output, "speaker_embeddings", None))
        turns = _turns(annotation, duration)
        exclusive = getattr(output, "exclusive_speaker_diarization", None)
        names = speaker_names(turns)
        return Diarization(
            turns=renamed(turns, names),
            exclusive_turns=renamed(
                exclusive_turns(turns) if exclusive is None else _turns(exclusive, duration), names
            ),
            duration=duration,
            model=self.model,
            speakers=tuple(self._speaker(label, voices.get(speaker, ())) for speaker, label in names.items()),
        )

    def _speaker(self, label: str, embedding: tuple[float, ...]) -> Speaker:
        """Returns the speaker. The whole pipeline is the embedding model: its clustering affects the mean voice."""
        return Speaker(label, embedding, self.model if embedding else "")


def _refuse_live_audio() -> Work[NoReturn]:
    """Refuses when it is run and not when it is made, like all work."""
    raise PreconditionFailed(
        "a pretrained pipeline cannot diarize live audio: leave CARECA_PIPELINE empty to use Careca's own diarization",
        reason="LIVE_NOT_SUPPORTED",
    )
    yield  # makes it work


class _Hook:
    """The callback of a pipeline between batches: pauses with the progress, which never decreases."""

    def __init__(self, pause: Callable[[Event], None]) -> None:
        self._pause = pause
        self._progress = 0.0

    def __call__(
        self, step: str, _artifact: object, *, total: int | None = None, completed: int | None = None, **_: object
    ) -> None:
        if total and completed is not None and step in _SHARES:
            start, end = _SHARES[step]
            self._progress = max(self._progress, start + min(1.0, completed / total) * (end - start))
        self._pause(Progress(Stage.DIARIZE, self._progress))


def _file(waveform: torch.Tensor) -> dict[str, Any]:
    """Returns pyannote's form of a file. Each call needs a new one, because pyannote changes it."""
    return {"waveform": waveform, "sample_rate": SAMPLE_RATE, "uri": "audio"}


def _turns(annotation: Any, duration: float) -> list[Turn]:
    tracks = annotation.itertracks(yield_label=True)
    turns = [Turn(max(0.0, segment.start), min(segment.end, duration), str(label)) for segment, _, label in tracks]
    return [turn for turn in turns if turn.start < turn.end]


def _unit_voices(annotation: Any, embeddings: Any) -> dict[str, tuple[float, ...]]:
    """Returns the voice of each speaker by the pipeline's label. ``embeddings``: shape (speakers, D), by sorted label.

    Speakers without a voice, which have zeros in ``embeddings``, are omitted.
    """
    if embeddings is None:
        return {}
    voices = {}
    for label, embedding in zip(annotation.labels(), embeddings, strict=True):
        length = np.linalg.norm(embedding)
        if np.isfinite(length) and length > 0:
            voices[str(label)] = tuple((embedding / length).astype(np.float32).tolist())
    return voices


def _digest_of(folder: Path) -> str:
    """Returns a short digest of the names and contents of all files in the folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:_SHORT_DIGEST]
