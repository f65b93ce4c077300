"""Reads windows of live audio: words that may change, and those that are final.

A window begins with words that are final already. The model is given them and continues after them, so that they never
change and are not computed again. A new word is final once three successive readings agree on it and on all words
before it, and it is not the last word of the reading, which the end of the audio may have cut. After a pause, two
readings must agree (Machacek et al., "Turning Whisper into Real-Time Transcription System", 2023: agreement of any
number of readings). Only final words are aligned with the audio.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens, merge_punctuations

from careca.inference.audio import Audio
from careca.inference.engine import Batch, Work
from careca.types import SAMPLE_RATE, ReadWindow, WindowToRead, Word
from careca_transcriber.clip_reader import (
    AFTER_A_WORD,
    BEFORE_A_WORD,
    MAX_NEW_TOKENS,
    frames_of,
    padded_features,
    window_for,
)
from careca_transcriber.context import fit_context
from careca_transcriber.passages import LONGEST_PIECE_SAMPLES
from careca_transcriber.reading import is_silence
from careca_transcriber.speech import FRAME_SAMPLES, Activity, Span, find_speech

_MARGIN_SAMPLES = SAMPLE_RATE // 5
"""Audio to read before and after speech: the detector misses soft beginnings and ends."""

_LEAST_LANGUAGE_SAMPLES = 3 * SAMPLE_RATE
_LEAST_PROBABILITY = 0.7
_LONGEST_UNKNOWN_SAMPLES = 6 * SAMPLE_RATE
"""Speech that is long enough to tell its language: three seconds if one has this probability, and six in any case.

At the start of 56 recordings, Whisper base found a wrong one in 29 % after a second, in 7 % after three, but in none of
those with this probability, and in 2 % after six."""

_CLEAR_PROBABILITY = 0.8
"""Probability from which another language than the likely one is used. Single words of another language are common."""

_LEAST_LOG_PROBABILITY = -2.0
"""A reading is used if its tokens have at least this log probability, in the mean. Below, the model guesses, as it does
for noise. Whisper's own limit for another attempt is -1, but a single short word is often below that."""

_MOST_TOKENS_PER_SECOND = 12
"""Nobody speaks faster. More tokens are a loop, which must not take the time of later readings."""

_LOOP_REPEATS = 5
"""People repeat a phrase less often without a pause."""

_SENTENCE_ENDS = ".?!…。？！"  # noqa: RUF001

_JOINED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages without spaces between words."""


@dataclass(frozen=True, slots=True)
class _Written:
    """A word as the model wrote it, with the space before it."""

    text: str
    tokens: tuple[int, ...]

    @property
    def key(self) -> str:
        """What two readings of the same word have in common."""
        return self.text.strip(string.punctuation + string.whitespace + "…“”«»¿¡").casefold()


class WindowReader:
    """Reads windows with one Whisper model. It has no state."""

    def __init__(self, whisper: WhisperModel) -> None:
        self._whisper = whisper

    def read(self, audio: Audio, activity: Activity, window: WindowToRead) -> Work[ReadWindow]:
        """Finds the words in ``audio``, which is at most 30 s long, with the speech in ``activity``."""
        speech = find_speech(activity)
        if not speech:
            return ReadWindow()
        start, end = speech[0].start, min(speech[-1].end, len(audio.samples))
        clip = Span(
            0 if window.final_words else max(0, start - _MARGIN_SAMPLES), min(end + _MARGIN_SAMPLES, len(audio.samples))
        )
        ended = window.last or len(audio.samples) - end > _MARGIN_SAMPLES
        language = window.options.language or ("" if self._whisper.model.is_multilingual else "en")
        certain = bool(language)
        if not language:
            said = np.concatenate([audio.float32(span.start, span.end) for span in speech])
            if len(said) >= _LEAST_LANGUAGE_SAMPLES or not window.likely_language:
                ((language, certain),) = yield Batch.alone(partial(self._language, said, window.likely_language))
            else:
                language, certain = window.likely_language, True
        spoken_until = end / SAMPLE_RATE
        reading = partial(
            self._read, audio, clip, window, language, certain=certain, ended=ended, spoken_until=spoken_until
        )
        (found,) = yield Batch.alone(reading)
        found = replace(found, words=tuple(_within_speech(word, activity) for word in found.words))
        result: ReadWindow = replace(found, speech_start=start / SAMPLE_RATE, speech_end=spoken_until)
        return result

    def _read(
        self,
        audio: Audio,
        clip: Span,
        window: WindowToRead,
        language: str,
        *,
        certain: bool,
        ended: bool,
        spoken_until: float,
    ) -> ReadWindow:
        """Reads ``clip``, in which speech ends at ``spoken_until`` seconds.

        Unless the ``language`` is certain, no word is final before the last reading.
        """
        whisper, options = self._whisper, window.options
        samples = audio.float32(clip.start, clip.end)
        tokenizer = Tokenizer(whisper.hf_tokenizer, whisper.model.is_multilingual, task="transcribe", language=language)
        context = fit_context(options.hotwords, "", lambda text: len(tokenizer.encode(f" {text}")))
        prompt = whisper.get_prompt(tokenizer, [], without_timestamps=True, hotwords=context.hotwords)
        final = tokenizer.encode(_joined(window.final_words, language)) if window.final_words else []
        encoded = whisper.encode(padded_features(whisper, samples, window_for(clip))[np.newaxis])
        most = min(MAX_NEW_TOKENS, round(len(samples) / SAMPLE_RATE * _MOST_TOKENS_PER_SECOND) + 8)
        (output,) = whisper.model.generate(
            encoded,
            [prompt + final],
            beam_size=options.beam_size,
            max_length=min(len(prompt) + len(final) + most, whisper.max_length),
            suppress_blank=not final,  # otherwise at least one word would follow the final ones
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            return_scores=True,
            return_no_speech_prob=True,
        )
        if is_silence(output.no_speech_prob, output.scores[0]):
            return ReadWindow(language=language if certain else "")
        tokens = [token for token in output.sequences_ids[0][len(final) :] if token < tokenizer.eot]
        written = _without_loop(_words(tokenizer, tokens))
        if output.scores[0] < _LEAST_LOG_PROBABILITY:
            written = []
        agreed = _agreed(written, window, ended=ended) if certain else 0
        if window.last:
            agreed = len(written)
        times = self._align(tokenizer, final, written, encoded, clip) if agreed else []
        # Words that begin where speech ends were not said: the model repeats what it wrote before.
        written = written[: next((index for index, time in enumerate(times) if time[0] >= spoken_until), None)]
        agreed = min(agreed, len(written))
        words = [
            Word(each.text.strip(), *times[index]) if index < agreed else Word(each.text.strip())
            for index, each in enumerate(written)
        ]
        return ReadWindow(tuple(words), agreed, language if certain or window.last else "")

    def _language(self, samples: Any, likely: str) -> tuple[str, bool]:
        """Returns the language of ``samples``, and whether it is certain; ``likely`` unless it is clearly another."""
        features = padded_features(self._whisper, samples[-LONGEST_PIECE_SAMPLES:], LONGEST_PIECE_SAMPLES)
        ((most_likely, *_),) = self._whisper.model.detect_language(self._whisper.encode(features[np.newaxis]))
        token, probability = most_likely
        language: str = token[2:-2]
        if likely:
            return language if probability >= _CLEAR_PROBABILITY else likely, True
        return language, len(samples) >= (
            _LEAST_LANGUAGE_SAMPLES if probability >= _LEAST_PROBABILITY else _LONGEST_UNKNOWN_SAMPLES
        )

    def _align(
        self, tokenizer: Tokenizer, final: Sequence[int], written: Sequence[_Written], encoded: Any, clip: Span
    ) -> list[tuple[float, float, float]]:
        """Returns the start, the end and the probability of each of the ``written`` words."""
        tokens = [*final, *(token for each in written for token in each.tokens)]
        (alignment,) = self._whisper.find_alignment(tokenizer, [tokens], encoded, frames_of(clip))
        spans: list[tuple[int, Any]] = []  # the position of the first token of each aligned word
        position = 0
        for each in alignment:
            spans.append((position, each))
            position += len(each["tokens"])
        times, first = [], len(final)
        offset, latest = clip.start / SAMPLE_RATE, clip.end / SAMPLE_RATE
        for each in written:
            own = [found for begin, found in spans if first <= begin < first + len(each.tokens)]
            own = own or [found for begin, found in spans if begin <= first][-1:]
            start = min(float(own[0]["start"]) + offset, latest)
            end = min(max(float(own[-1]["end"]) + offset, start), latest)
            times.append((start, end, float(np.mean([found["probability"] for found in own]))))
            first += len(each.tokens)
        return times


def _within_speech(word: Word, activity: Activity) -> Word:
    """Returns the word without the pauses around it, which the alignment gives to one of the words beside them."""
    if word.start is None or word.end is None:
        return word
    first, last = int(word.start * SAMPLE_RATE) // FRAME_SAMPLES, int(word.end * SAMPLE_RATE) // FRAME_SAMPLES + 1
    speech = np.flatnonzero(activity.speech[first:last] >= activity.threshold / 2)
    if not len(speech):
        return word
    start = max(word.start, (first + int(speech[0])) * FRAME_SAMPLES / SAMPLE_RATE)
    return replace(
        word, start=start, end=max(start, min(word.end, (first + int(speech[-1]) + 1) * FRAME_SAMPLES / SAMPLE_RATE))
    )


def _words(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[_Written]:
    """Returns the words of ``tokens``, with the punctuation around them."""
    texts, groups = tokenizer.split_to_word_tokens(list(tokens))
    words = [{"word": text, "tokens": group} for text, group in zip(texts, groups, strict=True)]
    merge_punctuations(words, BEFORE_A_WORD, AFTER_A_WORD)
    written = [_Written(each["word"], tuple(each["tokens"])) for each in words]
    return [each for each in written if each.key]  # a lone mark belongs to a word that is final already


def _joined(words: Sequence[str], language: str) -> str:
    """Returns the text of ``words`` as the model writes it.

    Without the end of a sentence: after it the model often ends, though people go on.
    """
    words = [*words[:-1], words[-1].rstrip(_SENTENCE_ENDS)]
    return "".join(words) if language in _JOINED_LANGUAGES else "".join(f" {word}" for word in words)


def _agreed(written: Sequence[_Written], window: WindowToRead, *, ended: bool) -> int:
    """Returns how many of the ``written`` words the readings before also found.

    After the end of speech that is the last reading, else the last two, and the last word does not count.
    """
    count = _common(written, window.previous_words)
    if not ended:
        count = min(count, _common(written, window.earlier_words), len(written) - 1)
    return max(0, count)


def _common(written: Sequence[_Written], words: Sequence[str]) -> int:
    """Returns how many words are the same, from the first on."""
    count = 0
    for one, other in zip(written, words, strict=False):
        if one.key != _Written(other, ()).key:
            break
        count += 1
    return count


def _without_loop(words: Sequence[_Written]) -> list[_Written]:
    """Returns ``words`` without the repetitions of a phrase that the model repeats to the end."""
    keys = [word.key for word in words]
    for length in range(1, len(keys) // _LOOP_REPEATS + 1):
        repeated = 0
        while repeated < len(keys) - length and keys[-1 - repeated] == keys[-1 - repeated - length]:
            repeated += 1
        if repeated >= length * (_LOOP_REPEATS - 1):
            return list(words[: len(words) - repeated])
    return list(words)
