"""Careca's own diarization: pyannote's segmentation, CAM++ embeddings, clustering by silhouette."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from careca.errors import PreconditionFailed
from careca.inference.audio import Audio
from careca.inference.engine import CancelToken, Emit
from careca.models import ModelStore
from careca.telemetry.logs import get_logger
from careca.turns import exclusive_turns, renamed, speaker_names
from careca.types import Diarization, DiarizationOptions, GpuMemory, Progress, Speaker, Stage
from careca_diarizer.clustering import Clustering, SpeakerBounds, Voices, cluster
from careca_diarizer.declipping import declipped
from careca_diarizer.embedding import Embedder
from careca_diarizer.networks import EMBEDDING_MODEL, SEGMENTATION_MODEL, load_networks
from careca_diarizer.reconstruction import reconstruct
from careca_diarizer.runtime import Network
from careca_diarizer.segmentation import Segmenter
from careca_diarizer.settings import DiarizerSettings
from careca_diarizer.stitching import Piece, Run, cut_pieces, stitch
from careca_diarizer.torch_device import TorchDevice

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
    networks: tuple[Network, Network]


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
        self._device = TorchDevice(settings)
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
        return str(self._device.torch)

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._models is not None

    def load(self) -> None:
        """Verifies and loads the weights and runs the models once; does nothing if they are loaded.

        Raises ``PreconditionFailed`` if the device is missing, and what ``load_networks`` raises.
        """
        if self._models:
            return
        self._device.prepare()
        device, settings = self._device.torch, self._settings
        batch = _GPU_BATCH if self._device.is_gpu else _CPU_BATCH
        with self._device.translated_errors():
            networks = load_networks(self._store, device, threads=self._device.threads)
            segment = Segmenter(
                networks[0],
                device,
                step_seconds=settings.segmentation_step_seconds,
                batch_size=settings.segmentation_batch_size or batch,
            )
            embed = Embedder(networks[1], device, batch_size=settings.embedding_batch_size or batch)
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
            for network in self._models.networks:
                network.release()
        self._device.release_cache()

    def infer(self, audio: Audio, options: DiarizationOptions, cancel: CancelToken, emit: Emit) -> Diarization:
        """Finds who spoke when. Raises ``PreconditionFailed`` if nothing is loaded."""
        speech = self.analyse(audio, cancel, emit)
        bounds = SpeakerBounds.of(options, self._settings.max_speakers)
        clustering = self.cluster(speech, bounds)
        _log_candidates(clustering, bounds, pieces=len(speech.pieces))
        diarization = self.assemble(audio, speech, clustering)
        emit(Progress(Stage.DIARIZE, 1.0))
        return diarization

    def analyse(self, audio: Audio, cancel: CancelToken, emit: Callable[[Progress], None]) -> Speech:
        """Runs segmentation and embedding. Raises ``PreconditionFailed`` if nothing is loaded."""
        if not self._models:
            raise PreconditionFailed("the models are not loaded", reason="MODEL_NOT_LOADED")
        audio = declipped(audio, self._settings.spool_dir)
        with self._device.translated_errors():
            runs = stitch(self._models.segment(audio, cancel, _share(emit, 0.0, _SEGMENTED)))
            pieces = cut_pieces(runs)
            voices = self._models.embed(audio, pieces, cancel, _share(emit, _SEGMENTED, _EMBEDDED))
        cancel.raise_if_cancelled()
        return Speech(runs, pieces, voices)

    def cluster(self, speech: Speech, bounds: SpeakerBounds) -> Clustering:
        """Finds the speaker of each piece."""
        return cluster(speech.voices, bounds, same_voice=self._settings.same_voice_similarity)

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


def _share(emit: Callable[[Progress], None], start: float, end: float) -> Callable[[float], None]:
    """Returns a function that emits the progress of one step as total progress from ``start`` to ``end``."""
    return lambda fraction: emit(Progress(Stage.DIARIZE, start + fraction * (end - start)))


def _log_candidates(clustering: Clustering, bounds: SpeakerBounds, *, pieces: int) -> None:
    """Logs the numbers of speakers that were considered, and a warning if there are fewer than requested."""
    scores = {
        candidate.speaker_count: None if candidate.silhouette_score is None else round(candidate.silhouette_score, 3)
        for candidate in clustering.candidates
    }
    _log.info("speakers counted", speakers=clustering.speakers, pieces=pieces, silhouette_scores=scores)
    if clustering.speakers < bounds.least and pieces:
        _log.warning("too little speech for the requested number of speakers", least=bounds.least, pieces=pieces)
