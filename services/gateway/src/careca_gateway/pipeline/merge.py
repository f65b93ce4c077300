"""Words and turns to utterances: gives each word its speaker. Pure, and linear in words plus turns.

Each word goes to the speaker whose exclusive turns it overlaps most, found in one forward sweep over both, as they are
ordered by time. Words at the border of two turns often fall on the wrong side by a few tenths of a second, so a
sentence that clearly belongs to one speaker then takes its few stray words with it. Last, words are cut into
utterances where the speaker or the language changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace
from itertools import chain, groupby
from operator import attrgetter
from typing import NamedTuple

from careca.types import Diarization, Segment, Transcript, Turn, Utterance, Word
from careca_gateway.pipeline.words import ends_sentence, gaps, spans

NEAREST_TURN_SECONDS = 1.0
"""A word outside any turn goes to the nearest turn, if its edge is no further away than this."""

SENTENCE_PAUSE_SECONDS = 1.0
"""A pause that ends a sentence whatever the punctuation: speakers are never smoothed across it."""

MAX_SENTENCE_WORDS = 50
"""A sentence is cut after so many words, as transcripts may lack punctuation."""

CLEAR_MAJORITY = 2 / 3
"""The share of a sentence's words that makes it one speaker's sentence."""

MAX_STRAY_WORDS = 3
"""Most words in a row that a sentence takes back from another speaker; more are an interruption of their own."""

UTTERANCE_PAUSE_SECONDS = 2.0
"""A pause that ends an utterance though the same speaker goes on."""

LONG_UTTERANCE_SECONDS = 30.0
"""An utterance that is longer ends with its sentence, so that a monologue has paragraphs."""

_UNSPACED_LANGUAGES = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km", "bo"})
"""Languages written without spaces between words, hence between segments."""


class _Placed(NamedTuple):
    """A word with its place in time, the space in front of it and its language."""

    word: Word
    start: float
    end: float
    gap: str
    language: str


def merge(transcript: Transcript, diarization: Diarization | None) -> tuple[Utterance, ...]:
    """Utterances in order of time, made of every word of ``transcript`` once and in order.

    Without a diarization each segment is an utterance without a speaker. With one, every word has a speaker unless
    there is no turn at all.
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
    words = _placed(transcript)
    speakers = assign(((word.start, word.end) for word in words), diarization.exclusive_turns)
    return tuple(_utterances(words, _smoothed(words, speakers)))


def merge_channels(transcripts: Sequence[Transcript], speakers: Sequence[str | None]) -> tuple[Utterance, ...]:
    """Utterances by start, made of every word of ``transcripts``, each transcript's being its speaker's.

    They overlap where people talk at once. One ends where somebody else says something in a pause of its speaker's, so
    that an answer stands behind its question and not behind all that its speaker says.
    """
    channels = [_placed(transcript) for transcript in transcripts]
    utterances = [
        utterance
        for index, (words, speaker) in enumerate(zip(channels, speakers, strict=True))
        for utterance in _utterances(
            words, [speaker] * len(words), _interruptions(words, chain(*channels[:index], *channels[index + 1 :]))
        )
    ]
    return tuple(sorted(utterances, key=attrgetter("start", "end")))


def assign(words: Iterable[tuple[float, float]], turns: Sequence[Turn]) -> list[str | None]:
    """The speaker of each word, given as start and end.

    The starts of ``words`` never go back; ``turns`` are ordered and never overlap. Ties go to the speaker of the word
    in front. All are ``None`` where there are no turns.
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
    """The speaker of most of ``start`` to ``end`` in the turns from ``first`` on, or ``None`` where nobody speaks."""
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
    """The speaker of the nearest turn around a word outside any turn; beyond the bound the previous word's speaker."""
    around = [turns[index] for index in (first - 1, first) if 0 <= index < len(turns)]
    if not around:
        return None
    distances = [max(turn.start - end, start - turn.end, 0.0) for turn in around]
    least = min(distances)
    nearest = [turn.speaker for turn, distance in zip(around, distances, strict=True) if distance == least]
    if previous is not None and (least > NEAREST_TURN_SECONDS or previous in nearest):
        return previous
    return nearest[0]


def _placed(transcript: Transcript) -> list[_Placed]:
    """All words of ``transcript`` in order, their starts never going back."""
    placed: list[_Placed] = []
    for segment in transcript.segments:
        language = segment.language or transcript.language
        between = "" if _is_unspaced(segment.text, language) else " "
        words = segment.words or _untimed_words(segment)
        start = max(segment.start, placed[-1].start if placed else 0.0)
        times = spans(words, start, max(segment.end, start))
        spaces = [between, *gaps(segment.text.strip(), words)[1:]][: len(words)]
        placed += [_Placed(word, *span, gap, language) for word, span, gap in zip(words, times, spaces, strict=True)]
    return placed


def _is_unspaced(text: str, language: str) -> bool:
    """Whether ``text`` is written without spaces: not so a translation, which is English whatever was spoken."""
    return language in _UNSPACED_LANGUAGES and not text.isascii()


def _untimed_words(segment: Segment) -> tuple[Word, ...]:
    """The words of a segment of which only the text is known."""
    return tuple(Word(text) for text in segment.text.split())


def _smoothed(words: Sequence[_Placed], speakers: Sequence[str | None]) -> list[str | None]:
    """Speakers with the stray words of clear sentences given to the speaker of the sentence."""
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


def _sentences(words: Sequence[_Placed]) -> Iterator[tuple[int, int]]:
    """First and last + 1 index of each sentence: cut at punctuation, pauses, new languages and after so many words."""
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


def _interruptions(words: Sequence[_Placed], others: Iterable[_Placed]) -> Set[int]:
    """Indices of the ``words`` in front of which there is a pause with a whole word of ``others`` in it."""
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
    words: Sequence[_Placed], speakers: Sequence[str | None], interruptions: Set[int] = frozenset()
) -> Iterator[Utterance]:
    """``words`` cut where speaker or language changes, after a long pause, and after a sentence where it gets long.

    They are cut in front of those whose indices are in ``interruptions``, too.
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


def _utterance(words: Sequence[_Placed], speaker: str | None) -> Utterance:
    """One utterance of ``words``."""
    return Utterance(
        start=words[0].start,
        end=max(word.end for word in words),
        text="".join(word.gap + word.word.text for word in words).strip(),
        speaker=speaker,
        words=tuple(replace(placed.word, speaker=speaker) for placed in words),
        language=words[0].language,
    )
