"""One transcription with faster-whisper: language detection and decoding of clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel

from careca.inference.audio import Audio
from careca.inference.engine import CancelToken
from careca.types import SAMPLE_RATE, Segment, TranscriptionOptions, Word
from careca_transcriber.clips import CLIP_SAMPLES, GRID_SAMPLES, cut_clips, spread
from careca_transcriber.context import fit_context
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
    unsure_pieces,
)
from careca_transcriber.reading import Reading, put_in_order
from careca_transcriber.speech import Activity, FloatArray, Span, find_speech

MAX_NEW_TOKENS = 224
"""Largest number of tokens for one clip: half of Whisper's text length, as in the reference implementation."""

_CLIP_SECONDS = CLIP_SAMPLES // SAMPLE_RATE
_LEAST_CLIP_SECONDS = 1.0
_LANGUAGE_CLIPS = 4
_LANGUAGE_BATCH_SIZE = 16


class WhisperRequest:
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
