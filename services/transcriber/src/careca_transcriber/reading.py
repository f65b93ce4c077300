"""What Whisper read in a clip, judged: what it invented is dropped, and what it left out is read again.

Whisper in batches ends a clip early at times, often where speakers change, and has no second thoughts about text that
repeats itself or that nobody spoke. It reads the rest of such a clip when that becomes a clip of its own, as its
one-by-one mode does by moving on to the last time it gave. Pure functions, without any model.
"""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import fmean

from careca.types import SAMPLE_RATE, Segment, Word
from careca_transcriber.clips import on_grid
from careca_transcriber.speech import Activity, Span

_NO_SPEECH_PROBABILITY = 0.6
_LEAST_LOG_PROBABILITY = -1.0
_GREATEST_COMPRESSION = 2.4
_LEAST_REPEATS = 3
_LONGEST_REPEATED_WORDS = 20
_LEAST_REST_SECONDS = 1.0
_LEAST_ADVANCE_SECONDS = 1.0
_REACH_SECONDS = 0.3
_LEAST_WORD_PROBABILITY = 0.1
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


@dataclass(frozen=True, slots=True)
class Reading:
    """What Whisper read in one clip, in seconds of the recording."""

    clip: Span
    segments: tuple[Segment, ...]
    log_probability: float
    """Mean of the logarithms of the probabilities of the clip's tokens."""
    no_speech_probability: float
    """Whisper's own probability that nobody speaks in the clip."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What to keep of a reading, and the part of its clip that is to be read again, if any."""

    segments: tuple[Segment, ...] = ()
    unread: Span | None = None


def read_in_order(
    clips: Sequence[Span], read: Callable[[Sequence[Span]], Sequence[Reading]], activity: Activity, batch_size: int
) -> Iterator[tuple[list[Segment], int]]:
    """Reads ``clips`` in batches and yields, after each, the segments that are certain and the sample reached.

    ``clips`` are by start and do not overlap; so are all the segments yielded. What a batch leaves unread is read in
    the next one, and later segments wait for it.
    """
    pending = deque(clips)
    waiting: list[Segment] = []
    while pending:
        batch = [pending.popleft() for _ in range(min(batch_size, len(pending)))]
        judgements = [judge(reading, activity) for reading in read(batch)]
        pending.extendleft(judgement.unread for judgement in reversed(judgements) if judgement.unread)
        waiting += (segment for judgement in judgements for segment in judgement.segments)
        waiting.sort(key=lambda segment: segment.start)
        reached = pending[0].start if pending else batch[-1].end
        certain = [segment for segment in waiting if not pending or segment.start < reached / SAMPLE_RATE]
        waiting = waiting[len(certain) :]
        yield certain, reached


def judge(reading: Reading, activity: Activity) -> Judgement:
    """Keeps what was said and finds what was left out.

    Dropped are: the whole clip where Whisper itself doubts that anybody speaks and is not sure of its words (the rule
    of Whisper's paper), text that repeats itself on and on, text without a letter or digit, segments around which no
    speech is heard, and segments whose words Whisper itself does not find in what it hears.
    """
    if reading.no_speech_probability > _NO_SPEECH_PROBABILITY and reading.log_probability < _LEAST_LOG_PROBABILITY:
        return Judgement()
    segments = _without_loop(reading.segments)
    kept = tuple(segment for segment in segments if _said(segment, activity))
    return Judgement(kept, _unread(reading.clip, kept, activity))


def put_in_order(segments: Sequence[Segment], start: float, end: float) -> tuple[Segment, ...]:
    """The segments with all times from ``start`` to ``end``, none going back, and no word overlapping the next.

    Times of words come from the model's attention and not from a clock: they cross each other at times.
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
    """The segment with the next of ``times`` for each word that has one, and reaching from the first to the last."""
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
    """Whether ``segment`` has words, speech around them, and Whisper's word for them."""
    probabilities = [word.probability for word in segment.words if word.probability is not None]
    return (
        _LETTER_OR_DIGIT.search(segment.text) is not None
        and activity.speech_seconds(segment.start - _REACH_SECONDS, segment.end + _REACH_SECONDS) > 0
        and (not probabilities or fmean(probabilities) >= _LEAST_WORD_PROBABILITY)
    )


def _unread(clip: Span, kept: Sequence[Segment], activity: Activity) -> Span | None:
    """What is left of ``clip`` after the last word, where somebody still speaks in it.

    ``None`` where the clip was hardly moved on in: reading it again would find the same.
    """
    if not kept:
        return None
    rest = Span(on_grid(round(kept[-1].end * SAMPLE_RATE)), clip.end)
    if rest.start - clip.start < _LEAST_ADVANCE_SECONDS * SAMPLE_RATE:
        return None
    return rest if activity.speech_seconds(*rest.seconds) >= _LEAST_REST_SECONDS else None


def _without_loop(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """The segments up to where the text begins to repeat itself on and on, if it does."""
    words = [word for segment in segments for word in segment.words]
    texts = [segment.text for segment in segments]
    if max(map(_compression, [" ".join(texts), *texts]), default=0.0) <= _GREATEST_COMPRESSION:
        return tuple(segments)
    first = _first_repeated([word.text.strip(".,!?-").lower() for word in words])
    if first is None:
        return tuple(segments)
    return tuple(_words_before(segments, first))


def _words_before(segments: Sequence[Segment], count: int) -> Iterator[Segment]:
    """The segments with their first ``count`` words in all."""
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
    """``text`` up to the end of ``words``, with which it begins, spaced as it is: not all languages use spaces."""
    position = 0
    for word in words:
        if (found := text.find(word.text, position)) >= 0:
            position = found + len(word.text)
    return text[:position]


def _compression(text: str) -> float:
    """How many times smaller the text becomes when compressed: the more it repeats itself, the higher."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def _first_repeated(texts: Sequence[str]) -> int | None:
    """Index of the first word of a phrase that comes at least three times in a row, ``None`` where there is none."""
    for first in range(len(texts)):
        for length in range(1, min(_LONGEST_REPEATED_WORDS, (len(texts) - first) // _LEAST_REPEATS) + 1):
            phrase = texts[first : first + length]
            repeats = (texts[first + length * n : first + length * (n + 1)] for n in range(1, _LEAST_REPEATS))
            if all(repeat == phrase for repeat in repeats):
                return first
    return None
