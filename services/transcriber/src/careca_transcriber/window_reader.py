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
from typing import Any, TypeAlias

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
    align,
    frames_of,
    padded_features,
    window_for,
)
from careca_transcriber.context import fit_context
from careca_transcriber.passages import LONGEST_PIECE_SAMPLES
from careca_transcriber.reading import is_silence
from careca_transcriber.speech import FRAME_SAMPLES, Activity, FloatArray, Span, find_speech

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

_GPU_WINDOW_SAMPLES = 18 * SAMPLE_RATE
"""Length of the encoder's window on a GPU, for clips of up to 15 s: longer than those of a session."""

_LOOP_REPEATS = 5
"""People repeat a phrase less often without a pause."""

_SENTENCE_ENDS = ".?!…。？！"  # noqa: RUF001

_JOINED_LANGUAGES = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages without spaces between words."""

_Time: TypeAlias = tuple[float, float, float]
"""The start and the end of a word in seconds, and its probability."""


@dataclass(frozen=True, slots=True)
class _Written:
    """A word as the model wrote it, with the space before it."""

    text: str
    tokens: tuple[int, ...]

    @property
    def key(self) -> str:
        """What two readings of the same word have in common."""
        return self.text.strip(string.punctuation + string.whitespace + "…“”«»¿¡").casefold()


@dataclass(frozen=True, slots=True)
class _SpokenWindow:
    """A window with speech, ready to be read."""

    samples: FloatArray
    """From -1 to 1, shape (len(clip),)."""
    clip: Span
    window: WindowToRead
    tokenizer: Tokenizer
    prompt: Sequence[int]
    final: Sequence[int]
    """The tokens of the final words."""
    certain: bool
    """Whether the language is certain. Unless it is, no word is final before the last reading."""
    ended: bool
    """Whether speech has ended."""
    spoken_until: float
    """The end of speech in seconds."""

    @property
    def most_tokens(self) -> int:
        """Most tokens of the final words and the new ones."""
        return len(self.final) + round(len(self.samples) / SAMPLE_RATE * _MOST_TOKENS_PER_SECOND) + 8


class WindowReader:
    """Reads windows with one Whisper model. It has no state.

    Args:
        whisper: the model.
        batch_size: the largest number of windows, of several sessions, to read together.
    """

    def __init__(self, whisper: WhisperModel, batch_size: int) -> None:
        self._whisper = whisper
        self._batch_size = batch_size

    def read(self, audio: Audio, activity: Activity, window: WindowToRead) -> Work[ReadWindow]:
        """Finds the words in ``audio``, which is at most 30 s long, with the speech in ``activity``."""
        speech = find_speech(activity)
        if not speech:
            return ReadWindow()
        start, end = speech[0].start, min(speech[-1].end, len(audio.samples))
        clip = Span(
            0 if window.final_words else max(0, start - _MARGIN_SAMPLES), min(end + _MARGIN_SAMPLES, len(audio.samples))
        )
        language = window.options.language or ("" if self._whisper.model.is_multilingual else "en")
        certain = bool(language)
        if not language:
            said = np.concatenate([audio.float32(span.start, span.end) for span in speech])
            if len(said) >= _LEAST_LANGUAGE_SAMPLES or not window.likely_language:
                ((language, certain),) = yield Batch.alone(partial(self._language, said, window.likely_language))
            else:
                language, certain = window.likely_language, True
        tokenizer, prompt, final = self._prompt(window, language)
        spoken = _SpokenWindow(
            samples=audio.float32(clip.start, clip.end),
            clip=clip,
            window=window,
            tokenizer=tokenizer,
            prompt=prompt,
            final=final,
            certain=certain,
            ended=window.last or len(audio.samples) - end > _MARGIN_SAMPLES,
            spoken_until=end / SAMPLE_RATE,
        )
        samples, beam_size = self._window_for(clip), window.options.beam_size
        (found,) = yield Batch(
            # Whisper reads prompts of one length and one language together.
            key=("window", samples, beam_size, language, len(prompt), bool(final)),
            items=[spoken],
            compute=partial(self._read, samples, beam_size),
            most=self._batch_size,
        )
        found = replace(found, words=tuple(_within_speech(word, activity) for word in found.words))
        result: ReadWindow = replace(found, speech_start=start / SAMPLE_RATE, speech_end=spoken.spoken_until)
        return result

    def _prompt(self, window: WindowToRead, language: str) -> tuple[Tokenizer, Sequence[int], Sequence[int]]:
        """Returns the tokenizer of the language, the prompt, and the tokens of the final words, which follow it."""
        whisper = self._whisper
        tokenizer = Tokenizer(whisper.hf_tokenizer, whisper.model.is_multilingual, task="transcribe", language=language)
        context = fit_context(window.options.hotwords, "", lambda text: len(tokenizer.encode(f" {text}")))
        prompt = whisper.get_prompt(tokenizer, [], without_timestamps=True, hotwords=context.hotwords)
        final = tokenizer.encode(_joined(window.final_words, language)) if window.final_words else []
        return tokenizer, prompt, final

    def _window_for(self, clip: Span) -> int:
        """Returns the length of the encoder's window in samples. A GPU has one for all, so that they share batches."""
        return window_for(clip) if self._whisper.model.device == "cpu" else max(window_for(clip), _GPU_WINDOW_SAMPLES)

    def _read(self, samples: int, beam_size: int, windows: Sequence[_SpokenWindow]) -> list[ReadWindow]:
        """Reads windows with the same language and prompt lengths, all with final words or all without."""
        whisper, first = self._whisper, windows[0]
        encoded = whisper.encode(np.stack([padded_features(whisper, each.samples, samples) for each in windows]))
        outputs = whisper.model.generate(
            encoded,
            [[*each.prompt, *each.final] for each in windows],
            beam_size=beam_size,
            # CTranslate2 writes half as many tokens as it is told.
            max_length=min(2 * max(each.most_tokens for each in windows), whisper.max_length),
            suppress_blank=not first.final,  # otherwise at least one word would follow the final ones
            suppress_tokens=get_suppressed_tokens(first.tokenizer, [-1]),
            return_scores=True,
            return_no_speech_prob=True,
        )
        written = [_written(window, output) for window, output in zip(windows, outputs, strict=True)]
        agreed = [_agreed(window, words) for window, words in zip(windows, written, strict=True)]
        times: list[list[_Time]] = [[] for _ in windows]
        if any(agreed):
            tokens = [
                [*window.final, *(token for each in words for token in each.tokens)]
                for window, words in zip(windows, written, strict=True)
            ]
            alignments = align(whisper, first.tokenizer, tokens, encoded, [frames_of(each.clip) for each in windows])
            times = [
                _times(window, words, alignment) if count else []
                for window, words, alignment, count in zip(windows, written, alignments, agreed, strict=True)
            ]
        return [_to_reading(*each) for each in zip(windows, written, agreed, times, strict=True)]

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


def _written(window: _SpokenWindow, output: Any) -> list[_Written]:
    """Returns the words that the model wrote after the final ones; none if nobody speaks, or if it guesses."""
    score = output.scores[0]
    if is_silence(output.no_speech_prob, score) or score < _LEAST_LOG_PROBABILITY:
        return []
    found = output.sequences_ids[0][len(window.final) : window.most_tokens]
    tokens = [token for token in found if token < window.tokenizer.eot]
    return _without_loop(_words(window.tokenizer, tokens))


def _times(window: _SpokenWindow, written: Sequence[_Written], alignment: Sequence[dict[str, Any]]) -> list[_Time]:
    """Returns the start, the end and the probability of each of the ``written`` words, which follow the final ones."""
    spans: list[tuple[int, Any]] = []  # the position of the first token of each aligned word
    position = 0
    for each in alignment:
        spans.append((position, each))
        position += len(each["tokens"])
    times, first = [], len(window.final)
    offset, latest = window.clip.start / SAMPLE_RATE, window.clip.end / SAMPLE_RATE
    for word in written:
        own = [found for begin, found in spans if first <= begin < first + len(word.tokens)]
        own = own or [found for begin, found in spans if begin <= first][-1:]
        start = min(float(own[0]["start"]) + offset, latest)
        end = min(max(float(own[-1]["end"]) + offset, start), latest)
        times.append((start, end, float(np.mean([found["probability"] for found in own]))))
        first += len(word.tokens)
    return times


def _to_reading(window: _SpokenWindow, written: Sequence[_Written], agreed: int, times: Sequence[_Time]) -> ReadWindow:
    """Returns the reading. If some words are agreed, ``times`` has the times of all."""
    # Words that begin where speech ends were not said: the model repeats what it wrote before.
    written = written[: next((index for index, time in enumerate(times) if time[0] >= window.spoken_until), None)]
    agreed = min(agreed, len(written))
    words = [
        Word(each.text.strip(), *times[index]) if index < agreed else Word(each.text.strip())
        for index, each in enumerate(written)
    ]
    known = window.certain or (window.window.last and words)
    return ReadWindow(tuple(words), agreed, window.tokenizer.language_code if known else "")


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


def _agreed(spoken: _SpokenWindow, written: Sequence[_Written]) -> int:
    """Returns how many of the ``written`` words are final: those that the readings before also found.

    After the end of speech that is the last reading, else the last two, and the last word does not count. In the last
    reading all words are final.
    """
    window = spoken.window
    if window.last:
        return len(written)
    if not spoken.certain:
        return 0
    count = _common(written, window.previous_words)
    if not spoken.ended:
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
