"""The text and the times of words: the spaces between words, and times for words that have none."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from careca.types import Word

_LOOKAHEAD_CHARACTERS = 8
"""How far after the last word the next one is searched: enough for spaces and stray punctuation."""

_SENTENCE_ENDS = frozenset(".?!…。？！｡؟।")  # noqa: RUF001
_CLOSERS = "\"'”’»)]}」』）"  # noqa: RUF001


def gaps(text: str, words: Sequence[Word]) -> list[str]:
    """Returns what ``text`` has before each of its ``words``: a space or nothing.

    Languages such as Chinese and Japanese have no spaces between words, and only the text shows that. A word that is
    not in the text where it is expected gets a space. The gap of the first word is empty.
    """
    found: list[str] = []
    cursor = 0
    for word in words:
        position = text.find(word.text, cursor, cursor + len(word.text) + _LOOKAHEAD_CHARACTERS)
        found.append("" if not found or position == cursor else " ")
        cursor = position + len(word.text) if position >= 0 else cursor
    return found


def spans(words: Sequence[Word], start: float, end: float) -> list[tuple[float, float]]:
    """Returns a start and an end for each of ``words``, all within ``start`` to ``end``. The starts never decrease.

    Words without times share the time between their neighbors evenly.
    """
    found: list[tuple[float, float]] = []
    earliest, untimed = start, 0
    for word in words:
        if word.start is None or word.end is None:
            untimed += 1
            continue
        begin = min(max(word.start, found[-1][0] if found else start), end)
        found += _shared(untimed, earliest, begin)
        found.append((begin, min(max(word.end, begin), end)))
        earliest, untimed = found[-1][1], 0
    return found + _shared(untimed, earliest, end)


def _shared(count: int, start: float, end: float) -> list[tuple[float, float]]:
    """Returns ``count`` spans of equal length from ``start`` to ``end``; empty spans if ``end`` is before ``start``."""
    start = min(start, end)
    step = (end - start) / count if count else 0.0
    return [(start + step * index, min(start + step * (index + 1), end)) for index in range(count)]


def ends_sentence(text: str) -> bool:
    """Returns whether a word ends a sentence, by its punctuation."""
    return text.rstrip(_CLOSERS)[-1:] in _SENTENCE_ENDS


def columns(text: str) -> int:
    """Returns the width of ``text`` on a screen. East Asian wide characters take two columns."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
