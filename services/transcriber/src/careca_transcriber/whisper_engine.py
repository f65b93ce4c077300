"""The Whisper engine, with faster-whisper and CTranslate2."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import overload

import ctranslate2
import numpy as np
import pynvml
from faster_whisper import WhisperModel
from faster_whisper.vad import get_vad_model

from careca.errors import InvalidRequest, PreconditionFailed
from careca.inference.audio import Audio
from careca.inference.engine import Work, complete
from careca.inference.parallel import Threads
from careca.models import ModelStore
from careca.resources.processors import usable_processors
from careca.telemetry.logs import get_logger
from careca.types import (
    SAMPLE_RATE,
    GpuMemory,
    Progress,
    ReadWindow,
    Segment,
    Stage,
    Transcript,
    TranscriptionOptions,
    WindowToRead,
)
from careca_transcriber.clips import cut_clips
from careca_transcriber.device_errors import translated_device_errors
from careca_transcriber.gpu import GpuMemoryMeter
from careca_transcriber.passages import Passage, prevailing
from careca_transcriber.reading import ReadInOrder
from careca_transcriber.settings import TranscriberSettings
from careca_transcriber.speech import Activity, Span, detect_activity, find_speech
from careca_transcriber.whisper_request import WhisperRequest
from careca_transcriber.window_reader import WindowReader

VERSION = 4
"""Part of the model's id and so of cache keys. Increase it with every change that changes transcripts."""


_GPU_BATCH_SIZE = 16
_CPU_BATCH_SIZE = 2
"""For each worker. Larger batches save little time on a CPU, and other requests would wait longer for their turn."""
_MOST_WORKERS = 4
"""Parts of a batch that a CPU computes at the same time. Threads that share a part wait for each other in each of its
many small steps: two take longer than one to decode a clip."""

_LISTENED = 0.1
_PASSAGES_FOUND = 0.15
"""Progress at the end of each step."""

_log = get_logger(__name__)


class WhisperEngine:
    """One Whisper model on one device."""

    def __init__(self, settings: TranscriberSettings, store: ModelStore) -> None:
        """Does not load the model. Raises ``NotFound`` or ``PreconditionFailed`` if it is unknown or not pulled."""
        self._settings = settings
        self._store = store
        self._id = store.resolve_whisper(settings.whisper_model).id
        self._cuda = settings.device == "cuda" or (settings.device == "auto" and _gpu_count() > settings.device_index)
        self._compute_type = _resolve_compute_type(settings, cuda=self._cuda)
        processors = settings.threads or usable_processors()
        workers, self._threads_of_a_worker = (1, processors) if self._cuda else divide_processors(processors)
        self._clip_threads = Threads(workers)
        self._speech_threads = Threads(processors)
        default_batch_size = _GPU_BATCH_SIZE if self._cuda else _CPU_BATCH_SIZE * workers
        self._batch_size = settings.whisper_batch_size or default_batch_size
        self._lock = threading.Lock()
        self._whisper: WhisperModel | None = None
        self._meter: GpuMemoryMeter | None = None

    @property
    def model(self) -> str:
        """The id of the model, and the settings that change transcripts."""
        windows = "/short" if self._settings.whisper_short_windows else ""
        return f"{self._id}/{self._compute_type}/speech{self._settings.speech_threshold:g}{windows}/v{VERSION}"

    @property
    def device(self) -> str:
        """The device that computes."""
        return f"cuda:{self._settings.device_index}" if self._cuda else "cpu"

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._whisper is not None

    @property
    def parallel_live(self) -> bool:
        """Yes on a CPU, with a worker of its own. On a GPU, batches are short."""
        return not self._cuda

    def load(self) -> None:
        """See ``Engine.load``."""
        self._load()

    def unload(self) -> None:
        """Drops the model with its weights, because CTranslate2's own unloading sometimes does nothing."""
        with self._lock:
            self._whisper = None

    def gpu_memory(self) -> GpuMemory:
        """The GPU memory according to the driver; while the model is loaded, all of it counts as allocated."""
        held = self._meter.measure() if self._meter else GpuMemory()
        return replace(held, allocated_bytes=held.reserved_bytes if self.loaded else 0)

    def release_gpu_cache(self) -> None:
        """Does nothing: CTranslate2 frees its cache only together with the weights."""

    @overload
    def infer(self, audio: Audio, options: TranscriptionOptions) -> Work[Transcript]: ...

    @overload
    def infer(self, audio: Audio, options: WindowToRead) -> Work[ReadWindow]: ...

    def infer(self, audio: Audio, options: TranscriptionOptions | WindowToRead) -> Work[Transcript] | Work[ReadWindow]:
        """Transcribes ``audio``, and yields each segment when it is finished; or reads a window of live audio."""
        if isinstance(options, WindowToRead):
            return self._read_window(audio, options)
        return self._transcribe(audio, options)

    def _read_window(self, audio: Audio, window: WindowToRead) -> Work[ReadWindow]:
        whisper = self._load()
        _check_options(whisper, window.options, self._settings.whisper_model)
        with translated_device_errors(self.device):
            activity = yield from self._detect_activity(audio)
            return (yield from WindowReader(whisper, self._batch_size).read(audio, activity, window))

    def _transcribe(self, audio: Audio, options: TranscriptionOptions) -> Work[Transcript]:
        whisper = self._load()
        _check_options(whisper, options, self._settings.whisper_model)
        with translated_device_errors(self.device):
            activity = yield from self._detect_activity(audio)
            request = self._request(whisper, audio, options)
            passages = yield from request.find_passages(activity, _share(_LISTENED, _PASSAGES_FOUND))
            speech = find_speech(activity)
            clips = [clip for passage in passages for clip in cut_clips(speech, activity, passage.span)]
            reading = ReadInOrder(clips, activity, lambda clip: request.options_for(clip, passages), self._batch_size)
            progress = _share(_PASSAGES_FOUND, 1.0)
            segments: list[Segment] = []
            while batch := reading.next_batch():
                certain, reached = reading.add((yield from request.read(*batch, most=self._batch_size)))
                yield from certain
                segments += certain
                yield progress(reached / len(audio.samples))
        language, probability = prevailing(passages, segments)
        return Transcript(tuple(segments), language, probability, audio.duration, self.model)

    def find_passages(self, audio: Audio) -> Work[list[Passage]]:
        """Finds the language passages of ``audio``, as ``infer`` does if the options have no language."""
        request = self._request(self._load(), audio, TranscriptionOptions())
        with translated_device_errors(self.device):
            activity = yield from self._detect_activity(audio)
            return (yield from request.find_passages(activity, _share(_LISTENED, _PASSAGES_FOUND)))

    def _request(self, whisper: WhisperModel, audio: Audio, options: TranscriptionOptions) -> WhisperRequest:
        return WhisperRequest(
            whisper, self._clip_threads, audio, options, short_windows=self._settings.whisper_short_windows
        )

    def _detect_activity(self, audio: Audio) -> Work[Activity]:
        return detect_activity(
            audio,
            lambda samples: get_vad_model()(samples).reshape(-1),
            threshold=self._settings.speech_threshold,
            threads=self._speech_threads,
            progress=_share(0.0, _LISTENED),
        )

    def _load(self) -> WhisperModel:
        with self._lock:
            if self._whisper is None:
                folder = self._store.verify(self._settings.whisper_model)
                self._check_device()
                with translated_device_errors(self.device):
                    whisper = self._open(str(folder))
                    if self._cuda:
                        _warm_up(whisper)
                    else:
                        _initialize(whisper)
                self._whisper = whisper
            return self._whisper

    def _check_device(self) -> None:
        """Raises ``PreconditionFailed`` if the device is missing or does not support the compute type."""
        if not self._cuda:
            supported = ctranslate2.get_supported_compute_types("cpu")
        elif _gpu_count() > self._settings.device_index:
            supported = ctranslate2.get_supported_compute_types("cuda", self._settings.device_index)
            self._meter = self._meter or _new_meter()
        else:
            raise PreconditionFailed(
                f"there is no GPU {self.device}: CTranslate2 finds {_gpu_count()}", reason="NO_SUCH_DEVICE"
            )
        if self._compute_type not in supported:
            raise PreconditionFailed(
                f"{self.device} does not support {self._compute_type}, only {', '.join(sorted(supported))}",
                reason="COMPUTE_TYPE_NOT_SUPPORTED",
            )

    def _open(self, folder: str) -> WhisperModel:
        return WhisperModel(
            folder,
            device="cuda" if self._cuda else "cpu",
            device_index=self._settings.device_index if self._cuda else 0,
            compute_type=self._compute_type,
            cpu_threads=self._threads_of_a_worker,
            num_workers=self._clip_threads.count + self.parallel_live,
            local_files_only=True,
        )


def divide_processors(processors: int) -> tuple[int, int]:
    """Returns the number of workers, at most 4, and of the threads of each, so that few processors are left over."""
    threads = -(-processors // _MOST_WORKERS)
    return processors // threads, threads


def _share(start: float, end: float) -> Callable[[float], Progress]:
    """Returns a function from the progress of one step to total progress from ``start`` to ``end``."""
    return lambda fraction: Progress(Stage.TRANSCRIBE, start + fraction * (end - start))


def _warm_up(whisper: WhisperModel) -> None:
    """Transcribes a second of silence, because the first inference on a GPU is slow; on a CPU it is not."""
    audio, whole = Audio(np.zeros(SAMPLE_RATE, dtype=np.int16)), Span(0, SAMPLE_RATE)
    request = WhisperRequest(whisper, Threads(1), audio, TranscriptionOptions(language="en"))
    complete(request.read([whole], request.options_for(whole, [Passage(whole, "en", 1.0)]), most=1))


def _initialize(whisper: WhisperModel) -> None:
    """Encodes 0.1 s of silence in this thread, before the threads of a batch do it at the same time.

    A Python module made with pybind11 may initialize itself during its first call, and if two threads make that call,
    each may wait for the other one forever. This was seen with OpenVINO.
    """
    whisper.encode(np.zeros((1, whisper.model.n_mels, 10), dtype=np.float32))


def _check_options(whisper: WhisperModel, options: TranscriptionOptions, model: str) -> None:
    """Raises ``InvalidRequest`` for options that the model does not support."""
    if not whisper.model.is_multilingual and options.translate:
        raise InvalidRequest(
            f"{model} knows only English and cannot translate: leave translate out or use a multilingual model",
            reason="TRANSLATION_NOT_SUPPORTED",
            field="config.options.translate",
            metadata={"model": model},
        )
    known = [code for code in whisper.supported_languages if _knows(whisper, code)]
    if options.language and options.language not in known:
        raise InvalidRequest(
            f"{model} does not know the language {options.language!r}; it knows {', '.join(sorted(known))}",
            reason="LANGUAGE_NOT_SUPPORTED",
            field="config.options.language_code",
            metadata={"model": model, "language_code": options.language},
        )


def _knows(whisper: WhisperModel, code: str) -> bool:
    """Whether the model has a token for the language: not all multilingual models support all languages."""
    return not whisper.model.is_multilingual or whisper.hf_tokenizer.token_to_id(f"<|{code}|>") is not None


def _gpu_count() -> int:
    count: int = ctranslate2.get_cuda_device_count()
    return count


def _resolve_compute_type(settings: TranscriberSettings, *, cuda: bool) -> str:
    if settings.whisper_compute_type != "auto":
        return settings.whisper_compute_type
    return "float16" if cuda else "int8"


def _new_meter() -> GpuMemoryMeter | None:
    try:
        return GpuMemoryMeter()
    except pynvml.NVMLError as error:
        _log.warning("the GPU's memory cannot be measured", error=str(error))
        return None
