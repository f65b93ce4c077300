"""Careca's own diarization: pyannote segmentation, CAM++ embeddings, clustering by silhouette."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from careca.audio import Audio
from careca.engine import CancelToken
from careca.errors import Unavailable
from careca.logs import get_logger
from careca.models import ModelStore
from careca.types import Diarization, DiarizationOptions, Progress, Stage
from careca_diarizer.clustering import Clustering, SpeakerBounds, cluster
from careca_diarizer.embedding import Embedder
from careca_diarizer.reconstruction import exclusive_turns, reconstruct
from careca_diarizer.segmentation import Segmenter
from careca_diarizer.settings import DiarizerSettings
from careca_diarizer.stitching import cut_pieces, stitch
from careca_diarizer.torch_device import gpu_memory, gpu_memory_errors, prepare_device, release_gpu_cache

ALGORITHM_VERSION = 1
"""Part of the model id: to be raised with every change of what is found, so that cached results are not used on."""

_SEGMENTATION = "segmentation-3.0"
_EMBEDDING = "campplus-zh-en"

_SEGMENTED = 0.7
_EMBEDDED = 0.97
"""Fractions of the work that are done after a stage."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Models:
    """What is in memory while the engine is loaded."""

    segment: Segmenter
    embed: Embedder


class PyannoteEngine:
    """A ``DiarizerEngine`` out of a segmentation and an embedding model."""

    def __init__(self, settings: DiarizerSettings, store: ModelStore) -> None:
        self._settings = settings
        self._store = store
        self._device: torch.device | None = None
        self._models: _Models | None = None

    @property
    def model(self) -> str:
        """Ids of both models, the version of the algorithm and the settings that change what is found."""
        settings = self._settings
        return (
            f"{self._store.digest_of(_SEGMENTATION)}+{self._store.digest_of(_EMBEDDING)}+careca-{ALGORITHM_VERSION}"
            f"({settings.segmentation_step_seconds:g},{settings.max_speakers},{settings.same_voice_similarity:g})"
        )

    @property
    def device(self) -> str:
        """The device that computes, once loaded; before that, the one that was chosen."""
        return str(self._device or self._settings.device)

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._models is not None

    def load(self) -> None:
        """Puts verified weights into memory and computes once. Raises ``PreconditionFailed`` where that cannot be."""
        if self._models:
            return
        settings = self._settings
        segmentation, embedding = self._store.verify(_SEGMENTATION), self._store.verify(_EMBEDDING)
        self._device = prepare_device(settings.device, settings.device_index, settings.threads)
        with gpu_memory_errors():
            models = _Models(
                Segmenter(
                    segmentation / "pytorch_model.bin",
                    self._device,
                    step_seconds=settings.segmentation_step_seconds,
                    batch_size=settings.segmentation_batch_size,
                ),
                Embedder(
                    embedding / "campplus_cn_en_common.pt", self._device, batch_size=settings.embedding_batch_size
                ),
            )
            models.segment.warm_up()
            models.embed.warm_up()
        self._models = models

    def unload(self) -> None:
        """Drops the weights."""
        self._models = None

    def gpu_memory(self) -> tuple[int, int]:
        """Bytes of GPU memory that live data uses and that this process holds."""
        return gpu_memory(self._device)

    def release_gpu_cache(self) -> None:
        """Gives cached GPU memory back to the device."""
        release_gpu_cache(self._device)

    def diarize(
        self, audio: Audio, options: DiarizationOptions, cancel: CancelToken, emit: Callable[[Progress], None]
    ) -> Diarization:
        """Finds who spoke when: see ``DiarizerEngine``."""
        if not self._models:
            raise Unavailable("the diarization models are not loaded")
        with gpu_memory_errors():
            local = self._models.segment(audio, cancel, _share(emit, 0.0, _SEGMENTED))
            runs = stitch(local)
            pieces = cut_pieces(runs)
            voices = self._models.embed(audio, pieces, cancel, _share(emit, _SEGMENTED, _EMBEDDED))
        cancel.raise_if_cancelled()
        bounds = SpeakerBounds.of(options, self._settings.max_speakers)
        clustering = cluster(voices, bounds, same_voice=self._settings.same_voice_similarity)
        _report(clustering, bounds, len(pieces))
        turns = reconstruct(runs, pieces, clustering, audio.duration)
        emit(Progress(Stage.DIARIZE, 1.0))
        return Diarization(turns, exclusive_turns(turns), audio.duration, self.model, clustering.candidates)


def _share(emit: Callable[[Progress], None], start: float, end: float) -> Callable[[float], None]:
    """Progress within a stage as progress from ``start`` to ``end`` of the whole."""
    return lambda fraction: emit(Progress(Stage.DIARIZE, start + fraction * (end - start)))


def _report(clustering: Clustering, bounds: SpeakerBounds, pieces: int) -> None:
    """Logs what was considered and what came of it."""
    scores = {candidate.speaker_count: candidate.silhouette_score for candidate in clustering.candidates}
    _log.info("speakers counted", speakers=clustering.speakers, pieces=pieces, silhouette_scores=scores)
    if clustering.speakers < bounds.least:
        _log.warning(
            "the audio has too little speech for as many speakers as were asked for",
            wanted=bounds.least,
            found=clustering.speakers,
        )
