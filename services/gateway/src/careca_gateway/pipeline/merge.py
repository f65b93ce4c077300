"""Merges words and turns to utterances: gives each word its speaker. Pure, and linear in words plus turns.

Each word gets the speaker whose exclusive turns it overlaps most. Words and turns are ordered by time, so one forward
sweep over both finds them. At the border of two turns, words often fall on the wrong side by a few tenths of a second.
So if most words of a sentence belong to one speaker, that speaker gets its few other words too. At the end, the words
are split into utterances where the speaker or the language changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace
from itertools import chain, groupby
from operator import attrgetter
from typing import NamedTuple

from careca.languages import is_unspaced
from careca.types import Diarization, Segment, Transcript, Turn, Utterance, Word
from careca_gateway.pipeline.words import ends_sentence, gaps, spans

NEAREST_TURN_SECONDS = 1.0
"""A word outside of all turns gets the nearest turn's speaker if the turn is not further away than this."""

SENTENCE_PAUSE_SECONDS = 1.0
"""A pause that ends a sentence regardless of punctuation. Speakers are never smoothed across it."""

MAX_SENTENCE_WORDS = 50
"""The maximum number of words in a sentence, because transcripts may have no punctuation."""

CLEAR_MAJORITY = 2 / 3
"""The share of its words from which on a sentence belongs to one speaker."""

MAX_STRAY_WORDS = 3
"""The most consecutive words of another speaker that smoothing changes. More words are an interruption."""

UTTERANCE_PAUSE_SECONDS = 2.0
"""A pause that ends an utterance even if the same speaker continues."""

LONG_UTTERANCE_SECONDS = 30.0
"""A longer utterance ends at the end of its sentence, so that a monologue has paragraphs."""


class _TimedWord(NamedTuple):
    """A word with its times, the space before it, and its language."""

    word: Word
    start: float
    end: float
    gap: str
    language: str


def merge(transcript: Transcript, diarization: Diarization | None) -> tuple[Utterance, ...]:
    """Returns utterances in order of time. They contain every word of ``transcript`` once and in order.

    Without a diarization, each segment is an utterance without a speaker. With one, every word has a speaker unless
    there are no turns.
    """
    if diarization is None:
        return tuple(
            Utterance(
                segment.start,
                segment.end,
                segment.text.strip(),
                words=segment.words,
                language=segment.language or transcript.language,
            )
            for segment in transcript.segments
            if segment.text.strip()
        )
    words = _timed_words(transcript)
    speakers = assign_speakers(((word.start, word.end) for word in words), diarization.exclusive_turns)
    return tuple(_utterances(words, _smooth(words, speakers)))


def merge_channels(transcripts: Sequence[Transcript], speakers: Sequence[str | None]) -> tuple[Utterance, ...]:
    """Returns utterances by start. They contain every word of ``transcripts``, each with the speaker of its transcript.

    Utterances overlap if people talk at the same time. An utterance ends where another speaker says something during
    its speaker's pause, so that an answer comes directly after its question.
    """
    channels = [_timed_words(transcript) for transcript in transcripts]
    utterances = [
        utterance
        for index, (words, speaker) in enumerate(zip(channels, speakers, strict=True))
        for utterance in _utterances(
            words, [speaker] * len(words), _interruptions(words, chain(*channels[:index], *channels[index + 1 :]))
        )
    ]
    return tuple(sorted(utterances, key=attrgetter("start", "end")))


def assign_speakers(words: Iterable[tuple[float, float]], turns: Sequence[Turn]) -> list[str | None]:
    """Returns the speaker of each word, which is given as start and end.

    The starts of ``words`` never decrease. ``turns`` are ordered and do not overlap. A tie goes to the speaker of the
    word before. All are ``None`` if there are no turns.
    """
    speakers: list[str | None] = []
    previous: str | None = None
    first = 0
    for start, end in words:
        while first < len(turns) and turns[first].end <= start:
            first += 1
        previous = _most_overlap(start, end, turns, first, previous) or _nearest(start, end, turns, first, previous)
        speakers.append(previous)
    return speakers


def _most_overlap(start: float, end: float, turns: Sequence[Turn], first: int, previous: str | None) -> str | None:
    """Returns the speaker with the most time between ``start`` and ``end`` from turn ``first`` on, or ``None``."""
    overlaps: dict[str, float] = {}
    for index in range(first, len(turns)):
        turn = turns[index]
        if turn.start >= end:
            break
        overlap = min(end, turn.end) - max(start, turn.start)
        overlaps[turn.speaker] = overlaps.get(turn.speaker, 0.0) + overlap
    most = max(overlaps.values(), default=0.0)
    if most <= 0.0:
        return None
    if previous is not None and overlaps.get(previous) == most:
        return previous
    return next(speaker for speaker, overlap in overlaps.items() if overlap == most)


def _nearest(start: float, end: float, turns: Sequence[Turn], first: int, previous: str | None) -> str | None:
    """Returns the nearest turn's speaker for a word outside of all turns; if it is far, the previous word's speaker."""
    around = [turns[index] for index in (first - 1, first) if 0 <= index < len(turns)]
    if not around:
        return None
    distances = [max(turn.start - end, start - turn.end, 0.0) for turn in around]
    least = min(distances)
    nearest = [turn.speaker for turn, distance in zip(around, distances, strict=True) if distance == least]
    if previous is not None and (least > NEAREST_TURN_SECONDS or previous in nearest):
        return previous
    return nearest[0]


def _timed_words(transcript: Transcript) -> list[_TimedWord]:
    """Returns all words of ``transcript`` in order. Their starts never decrease."""
    placed: list[_TimedWord] = []
    for segment in transcript.segments:
        language = segment.language or transcript.language
        between = "" if is_unspaced(segment.text, language) else " "
        words = segment.words or _untimed_words(segment)
        start = max(segment.start, placed[-1].start if placed else 0.0)
        times = spans(words, start, max(segment.end, start))
        spaces = [between, *gaps(segment.text.strip(), words)[1:]][: len(words)]
        placed += [_TimedWord(word, *span, gap, language) for word, span, gap in zip(words, times, spaces, strict=True)]
    return placed


def _untimed_words(segment: Segment) -> tuple[Word, ...]:
    return tuple(Word(text) for text in segment.text.split())


def _smooth(words: Sequence[_TimedWord], speakers: Sequence[str | None]) -> list[str | None]:
    """Returns the speakers after smoothing: in clear sentences, stray words get the sentence's speaker."""
    smoothed = list(speakers)
    for first, last in _sentences(words):
        speaker, count = Counter(speakers[first:last]).most_common(1)[0]
        if count == last - first or count < CLEAR_MAJORITY * (last - first):
            continue
        for _, run in groupby(range(first, last), key=speakers.__getitem__):
            strays = list(run)
            if len(strays) <= MAX_STRAY_WORDS:
                smoothed[strays[0] : strays[-1] + 1] = [speaker] * len(strays)
    return smoothed


def _sentences(words: Sequence[_TimedWord]) -> Iterator[tuple[int, int]]:
    """Yields first and last + 1 index of each sentence, split at punctuation, pauses, new languages, maximum length."""
    first = 0
    for index, word in enumerate(words):
        last = index + 1
        if (
            last == len(words)
            or ends_sentence(word.word.text)
            or words[last].start - word.end >= SENTENCE_PAUSE_SECONDS
            or words[last].language != word.language
            or last - first >= MAX_SENTENCE_WORDS
        ):
            yield first, last
            first = last


def _interruptions(words: Sequence[_TimedWord], others: Iterable[_TimedWord]) -> Set[int]:
    """Returns the indices of the ``words`` that follow a pause with a complete word of ``others`` in it."""
    ordered = sorted(others, key=attrgetter("start"))
    found = set()
    first = 0
    for index in range(1, len(words)):
        pause_start, pause_end = words[index - 1].end, words[index].start
        while first < len(ordered) and ordered[first].start < pause_end:
            if ordered[first].start >= pause_start and ordered[first].end <= pause_end:
                found.add(index)
            first += 1
    return found


def _utterances(
    words: Sequence[_TimedWord], speakers: Sequence[str | None], interruptions: Set[int] = frozenset()
) -> Iterator[Utterance]:
    """Splits ``words`` where the speaker or language changes, after a long pause, and after a sentence if it gets long.

    Also splits before the words whose indices are in ``interruptions``.
    """
    first = 0
    for index, word in enumerate(words):
        last = index + 1
        if (
            last == len(words)
            or speakers[last] != speakers[first]
            or words[last].language != words[first].language
            or last in interruptions
            or words[last].start - word.end >= UTTERANCE_PAUSE_SECONDS
            or (word.end - words[first].start >= LONG_UTTERANCE_SECONDS and ends_sentence(word.word.text))
        ):
            yield _utterance(words[first:last], speakers[first])
            first = last


def _utterance(words: Sequence[_TimedWord], speaker: str | None) -> Utterance:
    return Utterance(
        start=words[0].start,
        end=max(word.end for word in words),
        text="".join(word.gap + word.word.text for word in words).strip(),
        speaker=speaker,
        words=tuple(replace(placed.word, speaker=speaker) for placed in words),
        language=words[0].language,
    )
