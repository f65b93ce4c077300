"""Careca's own diarization: pyannote's segmentation, CAM++ embeddings, clustering by silhouette."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import overload

from careca.errors import PreconditionFailed
from careca.inference.audio import Audio
from careca.inference.engine import Batch, Work
from careca.models import ModelStore
from careca.telemetry.logs import get_logger
from careca.turns import exclusive_turns, renamed, speaker_names
from careca.types import (
    ClusteredVoices,
    Diarization,
    DiarizationOptions,
    DiarizedWindow,
    GpuMemory,
    Progress,
    Speaker,
    Stage,
    VoicesToCluster,
    WindowToDiarize,
)
from careca_diarizer.clustering import Clustering, SpeakerBounds, Voices, cluster
from careca_diarizer.declipping import declipped
from careca_diarizer.device import select_device
from careca_diarizer.embedding import Embedder
from careca_diarizer.live import voice_pieces, voices_of
from careca_diarizer.networks import EMBEDDING_MODEL, SEGMENTATION_MODEL, load_networks
from careca_diarizer.reconstruction import reconstruct, turns_by_track
from careca_diarizer.runtime import Networks
from careca_diarizer.segmentation import Segmenter
from careca_diarizer.settings import DiarizerSettings
from careca_diarizer.stitching import Piece, Run, cut_pieces, stitch
from careca_diarizer.windows import frame_seconds

ALGORITHM_VERSION = 6
"""Part of the model id. Increase it with every change of the results, so that older cached results are not used."""

_GPU_BATCH = 32
_CPU_BATCH = 16
"""Default batch sizes: just large enough to keep the device busy."""

_SEGMENTED = 0.6
_EMBEDDED = 0.95
"""Progress at the end of each step."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Models:
    """The models of a loaded engine."""

    segment: Segmenter
    embed: Embedder
    networks: Networks


@dataclass(frozen=True, slots=True)
class Speech:
    """The speech in an audio, before clustering."""

    runs: tuple[Run, ...]
    pieces: tuple[Piece, ...]
    voices: Voices
    """The voice of each piece."""


class PyannoteEngine:
    """A ``DiarizerEngine`` with a segmentation and an embedding model."""

    def __init__(self, settings: DiarizerSettings, store: ModelStore) -> None:
        self._settings = settings
        self._store = store
        self._device = select_device(settings)
        self._models: _Models | None = None

    @property
    def model(self) -> str:
        """The ids of both models, the version of the algorithm, and the settings that change results."""
        settings = self._settings
        return (
            f"{self._store.digest_of(SEGMENTATION_MODEL)}+{self._store.digest_of(EMBEDDING_MODEL)}+careca-{ALGORITHM_VERSION}"
            f"/{settings.segmentation_step_seconds:g}/{settings.max_speakers}/{settings.same_voice_similarity:g}"
        )

    @property
    def device(self) -> str:
        """The device that computes, such as ``cpu`` or ``cuda:0``."""
        return self._device.name

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._models is not None

    @property
    def parallel_live(self) -> bool:
        """No: batches are short, and the networks' memory cannot be released while another thread uses them."""
        return False

    def load(self) -> None:
        """Verifies and loads the weights, and on a GPU runs the models once; does nothing if they are loaded.

        Raises ``PreconditionFailed`` if the device is missing, and what ``load_networks`` raises.
        """
        if self._models:
            return
        self._device.prepare()
        settings = self._settings
        batch = _GPU_BATCH if self._device.is_gpu else _CPU_BATCH
        with self._device.translated_errors():
            networks = load_networks(self._store, self._device)
            segment = Segmenter(
                networks.segmentation,
                step_seconds=settings.segmentation_step_seconds,
                batch_size=settings.segmentation_batch_size or batch,
            )
            embed = Embedder(networks.features, networks.embedding, batch_size=settings.embedding_batch_size or batch)
            if self._device.is_gpu:
                segment.warm_up()
                embed.warm_up()
        self._models = _Models(segment, embed, networks)

    def unload(self) -> None:
        """Drops the weights."""
        self._models = None

    def gpu_memory(self) -> GpuMemory:
        """The GPU memory in use now."""
        return self._device.memory()

    def release_gpu_cache(self) -> None:
        """Releases memory that only makes the next audio faster, on any device."""
        if self._models:
            self._models.networks.segmentation.release()
            self._models.networks.embedding.release()
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
        """Finds who spoke when, in a recording or a window of at most 10 s, or which pieces have the same voice.

        Raises ``PreconditionFailed`` if audio is given and nothing is loaded.
        """
        match options:
            case DiarizationOptions():
                return self._diarize(audio, options)
            case WindowToDiarize():
                return self._diarize_window(audio, options)
            case VoicesToCluster():
                return self._cluster_voices(options)

    def _diarize(self, audio: Audio, options: DiarizationOptions) -> Work[Diarization]:
        speech = yield from self.analyse(audio)
        bounds = SpeakerBounds.of(options, self._settings.max_speakers)
        (clustering,) = yield Batch.alone(lambda: self.cluster(speech, bounds))
        _log_candidates(clustering, bounds, pieces=len(speech.pieces))
        diarization = self.assemble(audio, speech, clustering)
        yield Progress(Stage.DIARIZE, 1.0)
        return diarization

    def analyse(self, audio: Audio) -> Work[Speech]:
        """Runs segmentation and embedding. Raises ``PreconditionFailed`` if nothing is loaded."""
        return (yield from self._find_speech(audio, clipping_log_level=logging.INFO))

    def _diarize_window(self, audio: Audio, window: WindowToDiarize) -> Work[DiarizedWindow]:
        # Logs of each window would hide all others.
        speech = yield from self._find_speech(audio, clipping_log_level=logging.DEBUG, voices_from=window.voices_from)
        return DiarizedWindow(
            turns=turns_by_track(speech.runs, audio.duration),
            pieces=tuple(voice_pieces(speech.pieces, speech.voices, audio.duration)),
            embedding_model=self._store.digest_of(EMBEDDING_MODEL),
        )

    def _cluster_voices(self, asked: VoicesToCluster) -> Work[ClusteredVoices]:
        if not asked.pieces:
            return ClusteredVoices(())
        bounds = SpeakerBounds.of(asked.options, self._settings.max_speakers)
        (clustering,) = yield Batch.alone(lambda: self._cluster(voices_of(asked.pieces), bounds))
        _log.debug("voices clustered", speakers=clustering.speakers, pieces=len(asked.pieces))
        return ClusteredVoices(tuple(clustering.labels.tolist()))

    def _find_speech(self, audio: Audio, *, clipping_log_level: int, voices_from: float = 0.0) -> Work[Speech]:
        models = self._models
        if not models:
            raise PreconditionFailed("the models are not loaded", reason="MODEL_NOT_LOADED")
        restore = partial(declipped, audio, self._settings.spool_dir, log_level=clipping_log_level)
        (audio,) = yield Batch.alone(restore)
        with self._device.translated_errors():
            runs = stitch((yield from models.segment(audio, _share(0.0, _SEGMENTED))))
            pieces = cut_pieces(runs)
            audible = {piece.track for piece in pieces}
            runs = tuple(run for run in runs if run.track in audible)
            pieces = tuple(piece for piece in pieces if frame_seconds(piece.spans[-1][1]) > voices_from)
            voices = yield from models.embed(audio, pieces, _share(_SEGMENTED, _EMBEDDED))
        return Speech(runs, pieces, voices)

    def _cluster(self, voices: Voices, bounds: SpeakerBounds) -> Clustering:
        return cluster(voices, bounds, same_voice=self._settings.same_voice_similarity)

    def cluster(self, speech: Speech, bounds: SpeakerBounds) -> Clustering:
        """Finds the speaker of each piece."""
        return self._cluster(speech.voices, bounds)

    def assemble(self, audio: Audio, speech: Speech, clustering: Clustering) -> Diarization:
        """Returns the diarization. Speakers are labelled in order of first speech."""
        turns = reconstruct(speech.runs, speech.pieces, clustering, audio.duration)
        names = speaker_names(turns)
        turns = renamed(turns, names)
        embedding_model = self._store.digest_of(EMBEDDING_MODEL)
        speakers = tuple(
            Speaker(name, tuple(clustering.voices[int(number)].tolist()), embedding_model)
            for number, name in names.items()
        )
        return Diarization(turns, exclusive_turns(turns), audio.duration, self.model, clustering.candidates, speakers)


def _share(start: float, end: float) -> Callable[[float], Progress]:
    """Returns a function from the progress of one step to total progress from ``start`` to ``end``."""
    return lambda fraction: Progress(Stage.DIARIZE, start + fraction * (end - start))


def _log_candidates(clustering: Clustering, bounds: SpeakerBounds, *, pieces: int) -> None:
    """Logs the numbers of speakers that were considered, and a warning if there are fewer than requested."""
    scores = {
        candidate.speaker_count: None if candidate.silhouette_score is None else round(candidate.silhouette_score, 3)
        for candidate in clustering.candidates
    }
    _log.info("speakers counted", speakers=clustering.speakers, pieces=pieces, silhouette_scores=scores)
    if clustering.speakers < bounds.least and pieces:
        _log.warning("too little speech for the requested number of speakers", least=bounds.least, pieces=pieces)
