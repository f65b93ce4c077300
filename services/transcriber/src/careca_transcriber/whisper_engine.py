"""Whisper with faster-whisper and CTranslate2. Only this module imports them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import ctranslate2
import numpy as np
import pynvml
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.vad import get_vad_model

from careca.errors import InvalidRequest, PreconditionFailed
from careca.inference.audio import Audio
from careca.inference.engine import CancelToken, Emit
from careca.models import ModelStore
from careca.resources.processors import usable_processors
from careca.telemetry.logs import get_logger
from careca.types import SAMPLE_RATE, GpuMemory, Progress, Segment, Stage, Transcript, TranscriptionOptions, Word
from careca_transcriber.clips import CLIP_SAMPLES, GRID_SAMPLES, cut_clips, spread
from careca_transcriber.context import fit_context
from careca_transcriber.device_errors import translated_device_errors
from careca_transcriber.gpu import GpuMemoryMeter
from careca_transcriber.passages import (
    LONGEST_PIECE_SAMPLES,
    SHORTEST_PIECE_SAMPLES,
    Passage,
    Piece,
    cut_pieces,
    find_passages,
    language_at,
    main_language,
    other_pieces,
    outweighs,
    prevailing,
    unsure_pieces,
)
from careca_transcriber.reading import Reading, put_in_order, read_in_order
from careca_transcriber.settings import TranscriberSettings
from careca_transcriber.speech import Activity, FloatArray, Span, detect_activity, find_speech

VERSION = 2
"""Part of the model's id and so of cache keys. Increase it with every change that changes transcripts."""

MAX_NEW_TOKENS = 224
"""Largest number of tokens for one clip: half of Whisper's text length, as in the reference implementation."""

_CLIP_SECONDS = CLIP_SAMPLES // SAMPLE_RATE
_LEAST_CLIP_SECONDS = 1.0
_LANGUAGE_CLIPS = 4
_GPU_BATCH_SIZE = 16
_CPU_BATCH_SIZE = 4
_LISTENING_SHARE = 0.1
_LANGUAGE_SHARE = 0.05
_LANGUAGE_BATCH_SIZE = 16

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
        self._batch_size = settings.whisper_batch_size or (_GPU_BATCH_SIZE if self._cuda else _CPU_BATCH_SIZE)
        self._threads = settings.threads or usable_processors()
        self._lock = threading.Lock()
        self._whisper: WhisperModel | None = None
        self._meter: GpuMemoryMeter | None = None

    @property
    def model(self) -> str:
        """The id of the model, and the settings that change transcripts."""
        return f"{self._id}/{self._compute_type}/speech{self._settings.speech_threshold:g}/v{VERSION}"

    @property
    def device(self) -> str:
        """The device that computes."""
        return f"cuda:{self._settings.device_index}" if self._cuda else "cpu"

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._whisper is not None

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

    def infer(self, audio: Audio, options: TranscriptionOptions, cancel: CancelToken, emit: Emit) -> Transcript:
        """Transcribes ``audio``; emits each segment when it is finished."""
        whisper = self._load()
        _check_options(whisper, options, self._settings.whisper_model)

        def progress(fraction: float) -> None:
            emit(Progress(Stage.TRANSCRIBE, fraction))

        with translated_device_errors(self.device):
            activity = self._detect_activity(audio, cancel, lambda fraction: progress(_LISTENING_SHARE * fraction))
            request = _Request(whisper, audio, options, cancel)
            passages = request.find_passages(
                activity, lambda fraction: progress(_LISTENING_SHARE + _LANGUAGE_SHARE * fraction)
            )
            speech = find_speech(activity)
            clips = [clip for passage in passages for clip in cut_clips(speech, activity, passage.span)]
            segments: list[Segment] = []
            begun = _LISTENING_SHARE + _LANGUAGE_SHARE
            for certain, reached in read_in_order(
                clips, lambda batch: request.read(batch, passages), activity, self._batch_size
            ):
                for segment in certain:
                    emit(segment)
                segments += certain
                progress(begun + (1 - begun) * reached / len(audio.samples))
        language, probability = prevailing(passages, segments)
        return Transcript(tuple(segments), language, probability, audio.duration, self.model)

    def find_passages(self, audio: Audio, cancel: CancelToken) -> list[Passage]:
        """Returns the language passages of ``audio``, as ``infer`` finds them if the options have no language."""
        request = _Request(self._load(), audio, TranscriptionOptions(), cancel)
        with translated_device_errors(self.device):
            return request.find_passages(self._detect_activity(audio, cancel, lambda _: None), lambda _: None)

    def _detect_activity(self, audio: Audio, cancel: CancelToken, progress: Callable[[float], None]) -> Activity:
        return detect_activity(
            audio,
            lambda samples: get_vad_model()(samples).reshape(-1),
            threshold=self._settings.speech_threshold,
            threads=self._threads,
            cancel=cancel,
            progress=progress,
        )

    def _load(self) -> WhisperModel:
        with self._lock:
            if self._whisper is None:
                folder = self._store.verify(self._settings.whisper_model)
                self._check_device()
                with translated_device_errors(self.device):
                    whisper = self._open(str(folder))
                    _warm_up(whisper)
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
            cpu_threads=self._threads,
            local_files_only=True,
        )


class _Request:
    """The transcription of one audio with one set of options. It has a pipeline of its own, because that has state."""

    def __init__(self, whisper: WhisperModel, audio: Audio, options: TranscriptionOptions, cancel: CancelToken) -> None:
        self._whisper = whisper
        self._pipeline = BatchedInferencePipeline(whisper)
        self._audio = audio
        self._options = options
        self._cancel = cancel
        self._language = options.language or ("" if whisper.model.is_multilingual else "en")
        self._context = fit_context(options.hotwords, options.initial_prompt, self._count_tokens)

    def find_passages(self, activity: Activity, progress: Callable[[float], None]) -> list[Passage]:
        """Returns the passages of the recording by start, each with its language; together they cover all of it.

        Without a change of language there is one passage. Its language is the one in the options, else the most
        probable one for the whole recording.
        """
        whole = Span(0, len(self._audio.samples))
        if self._language:
            return [Passage(whole, self._language, 1.0)]
        pieces = self._detect_languages(cut_pieces(activity), lambda fraction: progress(fraction / 2))
        main = main_language(pieces)
        others = other_pieces(pieces, main, activity)
        pieces += self._detect_languages(others, lambda fraction: progress((1 + fraction) / 2))
        while unsure := unsure_pieces(pieces, main):
            checked = {piece.span: self._add_views(piece) for piece in unsure}
            pieces = [checked.get(piece.span, piece) for piece in pieces]
        passages = find_passages(pieces, main, len(whole))
        if len(passages) > 1:
            return passages
        language, probability = self._find_language(activity)
        if passages and language != main and outweighs(pieces, main, language):
            return passages
        return [Passage(whole, language, probability)]

    def _detect_languages(self, spans: Sequence[Span], progress: Callable[[float], None]) -> list[Piece]:
        """Returns the language probabilities in each of ``spans``, which are at most as long as the longest piece.

        The encoder's input has only that length, because its time grows faster than the length: from 0.03 s for 5 s of
        audio to 0.6 s for Whisper's usual 30 s.
        """
        pieces: list[Piece] = []
        for first in range(0, len(spans), _LANGUAGE_BATCH_SIZE):
            self._cancel.raise_if_cancelled()
            batch = spans[first : first + _LANGUAGE_BATCH_SIZE]
            views = self._language_probabilities(batch, LONGEST_PIECE_SAMPLES)
            pieces += (Piece(span, (view,)) for span, view in zip(batch, views, strict=True))
            progress(len(pieces) / len(spans))
        return pieces

    def _add_views(self, piece: Piece) -> Piece:
        """Returns ``piece`` with three more views: its first two thirds, its last, and all of it padded to 30 s."""
        self._cancel.raise_if_cancelled()
        part = max(len(piece.span) * 2 // 3, SHORTEST_PIECE_SAMPLES)
        start, end = piece.span.start, piece.span.end
        parts = self._language_probabilities([Span(start, start + part), Span(end - part, end)], LONGEST_PIECE_SAMPLES)
        return Piece(piece.span, (*piece.views, *parts, *self._language_probabilities([piece.span], CLIP_SAMPLES)))

    def _language_probabilities(self, spans: Sequence[Span], samples: int) -> list[dict[str, float]]:
        """Returns the probability of each language in each of ``spans``, padded with silence to ``samples``."""
        features = []
        for span in spans:
            speech = self._audio.float32(span.start, span.end)
            padded = np.pad(speech, (0, samples - len(speech)))
            features.append(self._whisper.feature_extractor(padded)[:, : samples // GRID_SAMPLES])
        likely = self._whisper.model.detect_language(self._whisper.encode(np.stack(features)))
        return [{token[2:-2]: probability for token, probability in each} for each in likely]

    def _find_language(self, activity: Activity) -> tuple[str, float]:
        """Returns the most probable language of the whole recording and its probability; empty without speech."""
        clips = cut_clips(find_speech(activity), activity, Span(0, len(self._audio.samples)))
        probabilities: Counter[str] = Counter()
        chosen = spread(clips, activity, _LANGUAGE_CLIPS)
        for clip in chosen:
            self._cancel.raise_if_cancelled()
            samples = self._audio.float32(clip.start, clip.end)
            _, _, likely = self._whisper.detect_language(audio=samples)
            probabilities.update({code: probability / len(chosen) for code, probability in likely})
        return probabilities.most_common(1)[0] if chosen else ("", 0.0)

    def read(self, clips: Sequence[Span], passages: Sequence[Passage]) -> list[Reading]:
        """Returns what Whisper reads in each of ``clips``, in the language of its passage. Each language is a batch."""
        languages = [language_at(clip.start, passages) for clip in clips]
        readings: dict[Span, Reading] = {}
        for language in dict.fromkeys(languages):
            batch = [clip for clip, each in zip(clips, languages, strict=True) if each == language]
            readings.update(zip(batch, self._read_in(language, batch), strict=True))
        return [readings[clip] for clip in clips]

    def _read_in(self, language: str, clips: Sequence[Span]) -> list[Reading]:
        self._cancel.raise_if_cancelled()
        samples, places = self._lay_out(clips)
        found: list[list[Any]] = [[] for _ in clips]
        passages, _ = self._pipeline.transcribe(
            samples,
            clip_timestamps=places,
            batch_size=len(clips),
            vad_filter=False,
            language=language,
            task="translate" if self._options.translate else "transcribe",
            beam_size=self._options.beam_size,
            temperature=0.0,
            initial_prompt=f" {self._context.prompt}" if self._context.prompt else None,
            hotwords=self._context.hotwords,
            max_new_tokens=MAX_NEW_TOKENS,
            without_timestamps=False,
            word_timestamps=True,
        )
        for passage in passages:
            found[round(passage.seek / self._whisper.frames_per_second) // _CLIP_SECONDS].append(passage)
        return [
            _to_reading(clip, clip.start / SAMPLE_RATE - place["start"], passages_of_clip, language)
            for clip, place, passages_of_clip in zip(clips, places, found, strict=True)
        ]

    def _lay_out(self, clips: Sequence[Span]) -> tuple[FloatArray, list[dict[str, float]]]:
        """Returns the clips' samples, each at a multiple of 30 s: shape (len(clips) * CLIP_SAMPLES,), and their places.

        So the memory does not depend on the distance of the clips, and the place of a clip gives its index.
        """
        samples = np.zeros(len(clips) * CLIP_SAMPLES, dtype=np.float32)
        places = []
        for index, clip in enumerate(clips):
            samples[index * CLIP_SAMPLES : index * CLIP_SAMPLES + len(clip)] = self._audio.float32(clip.start, clip.end)
            start = float(index * _CLIP_SECONDS)
            places.append({"start": start, "end": start + max(len(clip) / SAMPLE_RATE, _LEAST_CLIP_SECONDS)})
        return samples, places

    def _count_tokens(self, text: str) -> int:
        return len(self._whisper.hf_tokenizer.encode(f" {text}", add_special_tokens=False).ids)


def _to_reading(clip: Span, offset: float, passages: Sequence[Any], language: str) -> Reading:
    """Converts faster-whisper's segments of one clip; ``offset`` is added to their times."""
    start, end = clip.seconds
    segments = [
        Segment(p.start + offset, p.end + offset, p.text.strip(), tuple(_to_words(p, offset)), language)
        for p in passages
        if p.text.strip()
    ]
    return Reading(
        clip=clip,
        segments=put_in_order(segments, start, end),
        log_probability=min((float(p.avg_logprob) for p in passages), default=0.0),
        no_speech_probability=max((float(p.no_speech_prob) for p in passages), default=1.0),
    )


def _to_words(passage: Any, offset: float) -> Iterator[Word]:
    """Yields the words with times, or without times if the alignment found none."""
    for word in passage.words:
        if text := word.word.strip():
            yield Word(text, float(word.start) + offset, float(word.end) + offset, float(word.probability))
    if not passage.words:
        yield from (Word(text) for text in passage.text.split())


def _warm_up(whisper: WhisperModel) -> None:
    """Transcribes a second of silence, because the first inference on a device is slow."""
    audio, whole = Audio(np.zeros(SAMPLE_RATE, dtype=np.int16)), Span(0, SAMPLE_RATE)
    _Request(whisper, audio, TranscriptionOptions(language="en"), CancelToken()).read(
        [whole], [Passage(whole, "en", 1.0)]
    )


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
