"""The words of a corrected text: those that were recognised keep their times, the others get times. Pure functions."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import accumulate, pairwise
from typing import NamedTuple

from careca.types import Utterance, Word
from careca_gateway.corrections.pieces import Piece, comparable, pieces
from careca_gateway.pipeline.intervals import Span
from careca_gateway.pipeline.words import gaps, spans

MAX_COMPARED = 1_000_000
"""The maximum product of the numbers of pieces that are compared, because the time for it grows faster than the text.

Pieces at the beginning and the end that are equal do not count. Beyond it, all words between them get new times.
"""


class Sources:
    """The utterances that are replaced, by start."""

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self._utterances = utterances
        self._starts = [utterance.start for utterance in utterances]
        self._ends = list(accumulate((utterance.end for utterance in utterances), max))
        """The greatest end so far: it never decreases, even if people talk at once."""

    def at(self, utterance: Utterance) -> list[Utterance]:
        """Returns those at the time of the utterance: its speaker's, or all if that speaker said nothing then."""
        first, last = bisect_right(self._ends, utterance.start), bisect_left(self._starts, utterance.end)
        there = [each for each in self._utterances[first:last] if each.end > utterance.start]
        return [each for each in there if each.speaker == utterance.speaker] or there


def words_of(utterance: Utterance, sources: Sources) -> tuple[Word, ...]:
    """Returns the words of the corrected ``utterance``, all with its speaker and with times.

    The starts never decrease, and no time is outside the utterance. If its words are those of its text, they are kept.
    Otherwise they are aligned with the words of ``sources`` at that time.
    """
    words = utterance.words
    if not has_words(utterance.text, words):
        words = tuple(_aligned(utterance, _Recognised.at(utterance, sources.at(utterance))))
    times = spans(words, utterance.start, utterance.end)
    return tuple(
        Word(word.text, start, end, word.probability, utterance.speaker)
        for word, (start, end) in zip(words, times, strict=True)
    )


def has_words(text: str, words: Sequence[Word]) -> bool:
    """Returns whether ``text`` consists of ``words``, in order, with white space at most between them."""
    position = 0
    for word in words:
        while text[position : position + 1].isspace():
            position += 1
        if not word.text or not text.startswith(word.text, position):
            return False
        position += len(word.text)
    return bool(words) and not text[position:].strip()


class _Timed(NamedTuple):
    """A word with its text without white space, and its times."""

    word: Word
    text: str
    start: float
    end: float

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2


@dataclass(frozen=True, slots=True)
class _Recognised:
    """Words and the pieces of their text. A word may have several pieces, and a piece several words."""

    words: list[Word]
    pieces: list[Piece]
    times: list[Span]
    """The times of the pieces."""
    ends: list[int | None]
    """For each piece with which a word begins: the number of pieces up to the next end of both a word and a piece.
    Otherwise ``None``."""
    firsts: list[int]
    """The index of each piece's first word."""

    @classmethod
    def at(cls, utterance: Utterance, sources: Sequence[Utterance]) -> _Recognised:
        """Returns the words of ``sources`` in the time of the utterance."""
        found = cls([], [], [], [], [])
        for source in sources:
            for token in _tokens(source):
                found._add([word for word in token if utterance.start <= word.middle <= utterance.end])
        return found

    def _add(self, token: list[_Timed]) -> None:
        """Adds words without white space between them."""
        text = "".join(each.text for each in token)
        letters = [share for each in token for share in _shares(each.text, each.start, each.end)]
        owners = [len(self.words) + index for index, each in enumerate(token) for _ in each.text]
        borders = {index for index, (one, other) in enumerate(pairwise([-1, *owners, -1])) if one != other}
        found = pieces(text)
        edges = list(accumulate((len(piece.text) for piece in found), initial=0))
        for index, (first, last) in enumerate(pairwise(edges)):
            later = (number for number, edge in enumerate(edges[index + 1 :], 1) if edge in borders)
            self.ends.append(next(later) if first in borders else None)
            self.times.append(Span(letters[first].start, letters[last - 1].end))
            self.firsts.append(owners[first])
        self.pieces.extend(found)
        self.words.extend(replace(each.word, text=each.text, start=each.start, end=each.end) for each in token)

    def block(self, first: int, last: int) -> tuple[int, list[Word]]:
        """Returns how many pieces from ``first`` on are whole words, and these words; ``(1, [])`` if the word is cut.

        Only pieces before ``last`` count.
        """
        count = self.ends[first]
        if count is None or first + count > last:
            return 1, []
        stop = self.firsts[first + count] if first + count < len(self.firsts) else len(self.words)
        return count, self.words[self.firsts[first] : stop]


def _tokens(source: Utterance) -> Iterator[list[_Timed]]:
    """Yields the words of an utterance in groups without white space between the words."""
    token: list[_Timed] = []
    times = spans(source.words, source.start, source.end)
    for word, gap, time in zip(source.words, gaps(source.text, source.words), times, strict=True):
        if gap and token:
            yield token
            token = []
        if text := "".join(word.text.split()):
            token.append(_Timed(word, text, *time))
    if token:
        yield token


def _aligned(utterance: Utterance, recognised: _Recognised) -> Iterator[Word]:
    """Yields the words of the utterance's text: recognised ones if all their pieces are there, otherwise its pieces."""
    new = pieces(utterance.text)
    times = recognised.times
    end = utterance.start
    for equal, (first, last), (start, stop) in _compared(recognised.pieces, new):
        if equal:
            yield from _kept(recognised, first, last, new[start:stop])
            end = times[last - 1].end
        elif start < stop:
            following = times[last].start if last < len(times) else utterance.end
            room = Span(times[first].start, times[last - 1].end) if first < last else Span(end, following)
            texts = [piece.text for piece in new[start:stop]]
            yield from (Word(text, *share) for text, share in zip(texts, _shares(texts, *room), strict=True))
            end = room.end


def _kept(recognised: _Recognised, first: int, last: int, new: Sequence[Piece]) -> Iterator[Word]:
    """Yields the words of equal pieces, with the new texts."""
    index = first
    while index < last:
        count, words = recognised.block(index, last)
        part = new[index - first : index - first + count]
        text = "".join(piece.text for piece in part)
        if not words or any(piece.begins for piece in part[1:]):
            yield from (Word(piece.text, *recognised.times[index + at]) for at, piece in enumerate(part))
        elif text == "".join(word.text for word in words):
            yield from words
        else:
            probability = words[0].probability if len(words) == 1 else None
            yield Word(text, words[0].start, words[-1].end, probability)
        index += count


def _shares(texts: Sequence[str], start: float, end: float) -> list[Span]:
    """Returns consecutive spans from ``start`` to ``end`` in proportion to the lengths of ``texts``."""
    end = max(start, end)
    edges = list(accumulate(map(len, texts), initial=0))
    times = [start + (end - start) * edge / edges[-1] for edge in edges[:-1]] + [end]
    return [Span(*both) for both in pairwise(times)]


_Range = tuple[int, int]


def _compared(old: Sequence[Piece], new: Sequence[Piece]) -> Iterator[tuple[bool, _Range, _Range]]:
    """Yields whether they are equal, and the ranges of ``old`` and ``new``, from the beginning to the end."""
    one, other = [comparable(each.text) for each in old], [comparable(each.text) for each in new]
    head = _common(one, other)
    tail = _common(one[head:][::-1], other[head:][::-1])
    one_end, other_end = len(one) - tail, len(other) - tail
    if head:
        yield True, (0, head), (0, head)
    middle, others = one[head:one_end], other[head:other_end]
    if len(middle) * len(others) > MAX_COMPARED:
        yield False, (head, one_end), (head, other_end)
    else:
        for tag, first, last, start, stop in SequenceMatcher(None, middle, others).get_opcodes():
            yield tag == "equal", (head + first, head + last), (head + start, head + stop)
    if tail:
        yield True, (one_end, len(one)), (other_end, len(other))


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Returns the number of equal items at the beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(one), len(other)))
