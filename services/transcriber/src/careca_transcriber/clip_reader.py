"""Reads clips with Whisper: text, times of words, probabilities.

Whisper was trained on windows of 30 s, which is the default here. Its encoder also takes shorter ones, and on a CPU its
time grows much faster than the length of the window. The decoder attends to fewer frames then, which makes it faster
too. But a few more words are wrong.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ctranslate2 import StorageView
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens

from careca.types import SAMPLE_RATE, Segment, Word
from careca_transcriber.clips import CLIP_SAMPLES, GRID_SAMPLES
from careca_transcriber.context import Context
from careca_transcriber.reading import Reading, put_in_order
from careca_transcriber.speech import FloatArray, Span

MAX_NEW_TOKENS = 224
"""Largest number of tokens for one clip: half of Whisper's text length, as in the reference implementation."""

_ROOM_SAMPLES = 3 * SAMPLE_RATE
_WINDOW_STEP_SAMPLES = 3 * SAMPLE_RATE
_LEAST_CLIP_SECONDS = 1
_CLIP_START = 64.0
_DEFAULTS = inspect.signature(WhisperModel.transcribe).parameters
BEFORE_A_WORD: str = _DEFAULTS["prepend_punctuations"].default
AFTER_A_WORD: str = _DEFAULTS["append_punctuations"].default
"""Punctuation that belongs to the following word, and to the one before it."""


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How clips are read. Clips with equal options may share a batch."""

    language: str
    translate: bool
    beam_size: int
    context: Context
    window_samples: int
    """Length of the encoder's window."""


@dataclass(frozen=True, slots=True)
class ClipAudio:
    """A clip and its samples, shape (len(clip),), from -1 to 1."""

    clip: Span
    samples: FloatArray


def window_for(clip: Span) -> int:
    """Returns the length of the window for ``clip`` in samples: 3 s longer, in steps of 3 s, up to 30 s.

    In a window without room at its end Whisper more often leaves out the last words. Few lengths need little memory for
    prepared computations, and let more clips share a batch.
    """
    steps = -(-(len(clip) + _ROOM_SAMPLES) // _WINDOW_STEP_SAMPLES)
    return min(steps * _WINDOW_STEP_SAMPLES, CLIP_SAMPLES)


def padded_features(whisper: WhisperModel, samples: FloatArray, window_samples: int) -> FloatArray:
    """Returns the log mel spectrogram of ``samples``, padded with zeros to the window: shape (bands, frames)."""
    frames = window_samples // GRID_SAMPLES
    features = whisper.feature_extractor(samples)[:, :-1][:, :frames]
    padded: FloatArray = np.pad(features, ((0, 0), (0, frames - features.shape[1])))
    return padded


def align(
    whisper: WhisperModel, tokenizer: Tokenizer, texts: Sequence[Sequence[int]], encoded: Any, frames: Sequence[int]
) -> list[list[dict[str, Any]]]:
    """Returns faster-whisper's alignment of each text, given by its tokens, with its clip.

    A CPU aligns each clip alone. Together they take as long, and times would depend on the lengths of the other texts.
    """
    if whisper.model.device != "cpu":
        found: list[list[dict[str, Any]]] = whisper.find_alignment(tokenizer, texts, encoded, frames)
        return found
    outputs = np.asarray(encoded)
    return [
        whisper.find_alignment(tokenizer, [text], StorageView.from_array(output[np.newaxis]), [count])[0]
        for text, output, count in zip(texts, outputs, frames, strict=True)
    ]


class ClipReader:
    """Reads batches of clips with one Whisper model. It has no state: a batch does not depend on those before it.

    On a CPU, a clip does not depend on the others of its batch.
    """

    def __init__(self, whisper: WhisperModel) -> None:
        self._whisper = whisper

    def read(self, clips: Sequence[ClipAudio], options: ReadingOptions) -> list[Reading]:
        """Returns what Whisper reads in each of ``clips``, in order. Raises what CTranslate2 raises."""
        whisper, context = self._whisper, options.context
        tokenizer = Tokenizer(
            whisper.hf_tokenizer,
            whisper.model.is_multilingual,
            task="translate" if options.translate else "transcribe",
            language=options.language,
        )
        prompt = whisper.get_prompt(
            tokenizer, tokenizer.encode(f" {context.prompt}") if context.prompt else [], hotwords=context.hotwords
        )
        encoded = whisper.encode(
            np.stack([padded_features(whisper, each.samples, options.window_samples) for each in clips])
        )
        generated = whisper.model.generate(
            encoded,
            [prompt] * len(clips),
            beam_size=options.beam_size,
            max_length=len(prompt) + MAX_NEW_TOKENS,
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            return_scores=True,
            return_no_speech_prob=True,
        )
        frames = [frames_of(each.clip) for each in clips]
        tokens = [output.sequences_ids[0] for output in generated]
        texts = [[token for token in each if token < tokenizer.eot] for each in tokens]
        alignments = align(whisper, tokenizer, texts, encoded, frames)
        found = [self._segments(tokenizer, *each) for each in zip(tokens, alignments, frames, strict=True)]
        return [
            _to_reading(each.clip, segments, output, options.language)
            for each, segments, output in zip(clips, found, generated, strict=True)
        ]

    def _segments(
        self, tokenizer: Tokenizer, tokens: Sequence[int], alignment: list[dict[str, Any]], frames: int
    ) -> list[dict[str, Any]]:
        """Returns Whisper's segments in one clip with their words. The clip starts at ``_CLIP_START`` seconds.

        The library shortens the first word after a pause, also at the start of a clip if nothing is said before it.
        """
        parts, _, _ = self._whisper._split_segments_by_timestamps(
            tokenizer=tokenizer,
            tokens=tokens,
            time_offset=_CLIP_START,
            segment_size=frames,
            segment_duration=frames * GRID_SAMPLES / SAMPLE_RATE,
            seek=0,
        )
        segments = [
            {**part, "text": tokenizer.decode(part["tokens"]), "seek": round(_CLIP_START * SAMPLE_RATE / GRID_SAMPLES)}
            for part in parts
        ]
        aligned = _Aligned(alignment, self._whisper.frames_per_second)
        WhisperModel.add_word_timestamps(aligned, [segments], tokenizer, None, 0, BEFORE_A_WORD, AFTER_A_WORD, 0.0)
        return segments


@dataclass(frozen=True, slots=True)
class _Aligned:
    """Stands in for the model where the library asks for the alignment of one clip, which is known already."""

    alignment: list[dict[str, Any]]
    frames_per_second: int

    def find_alignment(self, *_: object) -> list[list[dict[str, Any]]]:
        """Returns the alignment."""
        return [self.alignment]


def frames_of(clip: Span) -> int:
    """Returns the number of whole seconds of a clip, rounded up, in frames of the spectrogram."""
    seconds = -(-len(clip) // SAMPLE_RATE)
    return max(seconds, _LEAST_CLIP_SECONDS) * SAMPLE_RATE // GRID_SAMPLES


def _to_reading(clip: Span, found: Sequence[dict[str, Any]], output: Any, language: str) -> Reading:
    """Converts faster-whisper's segments in one clip."""
    start, end = clip.seconds
    shift = start - _CLIP_START
    segments = [
        Segment(
            part["start"] + shift, part["end"] + shift, part["text"].strip(), tuple(_to_words(part, shift)), language
        )
        for part in found
        if part["text"].strip()
    ]
    tokens = len(output.sequences_ids[0])
    return Reading(
        clip=clip,
        segments=put_in_order(segments, start, end),
        log_probability=float(output.scores[0]) * tokens / (tokens + 1) if found else 0.0,
        no_speech_probability=float(output.no_speech_prob) if found else 1.0,
    )


def _to_words(part: dict[str, Any], shift: float) -> Iterator[Word]:
    """Yields the words with times, or without times if the alignment found none."""
    for word in part["words"]:
        if text := word["word"].strip():
            yield Word(text, float(word["start"]) + shift, float(word["end"]) + shift, float(word["probability"]))
    if not part["words"]:
        yield from (Word(text) for text in part["text"].split())
