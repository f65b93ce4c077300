"""Checks what Whisper read in a clip: drops invented text, and reads skipped speech again.

In batches, Whisper sometimes ends a clip early, often when the speaker changes, and does not detect text that repeats
or that nobody spoke. The unread rest of a clip becomes a clip of its own. Whisper's sequential mode does the same when
it continues from the last time that it gave. Pure functions, without a model.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import fmean
from typing import Generic, TypeVar

from careca.types import SAMPLE_RATE, Segment, Word
from careca_transcriber.clips import on_grid
from careca_transcriber.speech import Activity, Span

K = TypeVar("K")

_NO_SPEECH_PROBABILITY = 0.6
_LEAST_LOG_PROBABILITY = -1.0
_GREATEST_COMPRESSION = 2.4
_LEAST_REPEATS = 3
_LONGEST_REPEATED_WORDS = 20
_LEAST_REST_SECONDS = 1.0
_LEAST_ADVANCE_SECONDS = 1.0
_REACH_SECONDS = 0.3
_LEAST_WORD_PROBABILITY = 0.1
_BATCHES_AHEAD = 4
"""How far ahead clips of the same kind are looked for, in batches: the segments in between wait that long."""

_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


@dataclass(frozen=True, slots=True)
class Reading:
    """What Whisper read in one clip, with times in the recording."""

    clip: Span
    segments: tuple[Segment, ...]
    log_probability: float
    """Mean log probability of the clip's tokens."""
    no_speech_probability: float
    """Whisper's probability that the clip has no speech."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The segments to keep, and the part of the clip to read again, if any."""

    segments: tuple[Segment, ...] = ()
    unread: Span | None = None


class ReadInOrder(Generic[K]):
    """Reads clips in batches, and finds out which segments are final.

    ``clips`` and the segments are by start and do not overlap. The clips of a batch have the same kind: that of the
    first clip that is not read yet. The unread parts of a batch are read after it, and later segments wait for them.

    Args:
        clips: the clips.
        activity: speech in the recording.
        kind_of: returns the kind of a clip. Only clips with equal kinds are read together.
        batch_size: the largest number of clips to read together.
    """

    def __init__(
        self, clips: Sequence[Span], activity: Activity, kind_of: Callable[[Span], K], batch_size: int
    ) -> None:
        self._pending = list(clips)
        self._activity = activity
        self._kind_of = kind_of
        self._batch_size = batch_size
        self._waiting: list[Segment] = []

    def next_batch(self) -> tuple[list[Span], K] | None:
        """Returns the clips to read next and their kind; ``None`` at the end."""
        if not self._pending:
            return None
        kind = self._kind_of(self._pending[0])
        near = self._pending[: self._batch_size * _BATCHES_AHEAD]
        batch = [clip for clip in near if self._kind_of(clip) == kind][: self._batch_size]
        self._pending = [clip for clip in self._pending if clip not in batch]
        return batch, kind

    def add(self, readings: Sequence[Reading]) -> tuple[list[Segment], int]:
        """Takes what was read in the last batch. Returns the segments that are now final, and the sample reached."""
        judgements = [judge(reading, self._activity) for reading in readings]
        unread = [judgement.unread for judgement in judgements if judgement.unread]
        pending = self._pending = sorted([*self._pending, *unread], key=lambda clip: clip.start)
        waiting = [*self._waiting, *(segment for judgement in judgements for segment in judgement.segments)]
        waiting.sort(key=lambda segment: segment.start)
        reached = pending[0].start if pending else readings[-1].clip.end
        certain = [segment for segment in waiting if not pending or segment.start < reached / SAMPLE_RATE]
        self._waiting = waiting[len(certain) :]
        return certain, reached


def judge(reading: Reading, activity: Activity) -> Judgement:
    """Keeps what was said and finds what was skipped.

    Dropped are: the whole clip if Whisper finds no speech probable and its words improbable (the rule of Whisper's
    paper), text that repeats many times, words that begin where the clip ends, text without a letter or digit, segments
    without speech around them, and segments whose words have a low probability.
    """
    if is_silence(reading.no_speech_probability, reading.log_probability):
        return Judgement()
    segments = _within(_without_loop(reading.segments), reading.clip)
    kept = tuple(segment for segment in segments if _said(segment, activity))
    return Judgement(kept, _unread(reading.clip, kept, activity))


def put_in_order(segments: Sequence[Segment], start: float, end: float) -> tuple[Segment, ...]:
    """Returns the segments with all times between ``start`` and ``end``, ascending, and without overlapping words.

    The times of words come from the model's attention, so they are sometimes not in order.
    """
    timed = [
        (w.start, w.end) for segment in segments for w in segment.words if w.start is not None and w.end is not None
    ]
    starts = list(accumulate((min(max(word_start, start), end) for word_start, _ in timed), max))
    limits = [*starts, end][1:]
    ends = [max(first, min(word_end, limit)) for first, (_, word_end), limit in zip(starts, timed, limits, strict=True)]
    times = zip(starts, ends, strict=True)
    return tuple(_with_times(segment, times, start, end) for segment in segments)


def _with_times(segment: Segment, times: Iterator[tuple[float, float]], start: float, end: float) -> Segment:
    """Returns the segment with the next of ``times`` for each word with a time, and its start and end to match."""
    words = []
    for word in segment.words:
        if word.start is not None and word.end is not None:
            word_start, word_end = next(times)
            words.append(replace(word, start=word_start, end=word_end))
        else:
            words.append(word)
    return replace(
        segment,
        start=min(
            (word.start for word in words if word.start is not None), default=min(max(segment.start, start), end)
        ),
        end=max((word.end for word in words if word.end is not None), default=min(max(segment.end, start), end)),
        words=tuple(words),
    )


def _said(segment: Segment, activity: Activity) -> bool:
    """Whether ``segment`` has words, speech around them, and a sufficient probability."""
    probabilities = [word.probability for word in segment.words if word.probability is not None]
    return (
        _LETTER_OR_DIGIT.search(segment.text) is not None
        and activity.speech_seconds(segment.start - _REACH_SECONDS, segment.end + _REACH_SECONDS) > 0
        and (not probabilities or fmean(probabilities) >= _LEAST_WORD_PROBABILITY)
    )


def _unread(clip: Span, kept: Sequence[Segment], activity: Activity) -> Span | None:
    """Returns the rest of ``clip`` after the last word, if it has speech.

    ``None`` if the last word is near the start of the clip: reading it again would give the same.
    """
    if not kept:
        return None
    rest = Span(on_grid(round(kept[-1].end * SAMPLE_RATE)), clip.end)
    if rest.start - clip.start < _LEAST_ADVANCE_SECONDS * SAMPLE_RATE:
        return None
    return rest if activity.speech_seconds(*rest.seconds) >= _LEAST_REST_SECONDS else None


def _without_loop(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Returns the segments up to the place where the text starts to repeat many times, if it does."""
    words = [word for segment in segments for word in segment.words]
    texts = [segment.text for segment in segments]
    if max(map(_compression, [" ".join(texts), *texts]), default=0.0) <= _GREATEST_COMPRESSION:
        return tuple(segments)
    first = _first_repeated([word.text.strip(".,!?-").lower() for word in words])
    if first is None:
        return tuple(segments)
    return tuple(_words_before(segments, first))


def is_silence(no_speech_probability: float, log_probability: float) -> bool:
    """Returns whether what Whisper wrote was not said, by the rule of its paper."""
    return no_speech_probability > _NO_SPEECH_PROBABILITY and log_probability < _LEAST_LOG_PROBABILITY


def _within(segments: Sequence[Segment], clip: Span) -> tuple[Segment, ...]:
    """Returns the segments up to the first word that begins at the end of the clip, which nobody said in the clip."""
    _, end = clip.seconds
    words = [word for segment in segments for word in segment.words]
    count = next((index for index, word in enumerate(words) if word.start is not None and word.start >= end), None)
    return tuple(segments) if count is None else tuple(_words_before(segments, count))


def _words_before(segments: Sequence[Segment], count: int) -> Iterator[Segment]:
    """Yields the segments with only the first ``count`` words of all of them."""
    for segment in segments:
        words = segment.words[:count]
        count -= len(words)
        if len(words) == len(segment.words):
            yield segment
        elif words:
            end = next((word.end for word in reversed(words) if word.end is not None), segment.end)
            yield replace(segment, end=end, text=_text_through(segment.text, words), words=words)
        if count <= 0:
            return


def _text_through(text: str, words: Sequence[Word]) -> str:
    """Returns the part of ``text`` that contains ``words``, with its spacing: not all languages use spaces."""
    position = 0
    for word in words:
        if (found := text.find(word.text, position)) >= 0:
            position = found + len(word.text)
    return text[:position]


def _compression(text: str) -> float:
    """Returns the compression ratio of the text. Repetitive text has a high ratio."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def _first_repeated(texts: Sequence[str]) -> int | None:
    """Returns the index of the first phrase that occurs at least three times in a row, ``None`` if there is none."""
    for first in range(len(texts)):
        for length in range(1, min(_LONGEST_REPEATED_WORDS, (len(texts) - first) // _LEAST_REPEATS) + 1):
            phrase = texts[first : first + length]
            repeats = (texts[first + length * n : first + length * (n + 1)] for n in range(1, _LEAST_REPEATS))
            if all(repeat == phrase for repeat in repeats):
                return first
    return None
