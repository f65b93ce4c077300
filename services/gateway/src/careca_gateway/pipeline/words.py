"""Words as text and as time: the spaces between them, and times for those that the model gave none."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from careca.types import Word

_LOOKAHEAD_CHARACTERS = 8
"""How far behind the last word the next one is looked for: enough for spaces and stray punctuation."""

_SENTENCE_ENDS = frozenset(".?!…。？！｡؟।")  # noqa: RUF001
_CLOSERS = "\"'”’»)]}」』）"  # noqa: RUF001


def gaps(text: str, words: Sequence[Word]) -> list[str]:
    """What ``text`` writes in front of each of its ``words``: a space or nothing.

    Languages such as Chinese and Japanese put no spaces between words, and only the text knows. A word that the text
    does not contain where it is expected gets a space. The gap of the first word is empty.
    """
    found: list[str] = []
    cursor = 0
    for word in words:
        position = text.find(word.text, cursor, cursor + len(word.text) + _LOOKAHEAD_CHARACTERS)
        found.append("" if not found or position == cursor else " ")
        cursor = position + len(word.text) if position >= 0 else cursor
    return found


def spans(words: Sequence[Word], start: float, end: float) -> list[tuple[float, float]]:
    """A start and an end for each of ``words``, all within ``start`` to ``end``, no start before the one in front.

    Words without times share the time between their neighbours evenly.
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
    """``count`` spans of equal length from ``start`` to ``end``; all empty where ``end`` comes first."""
    start = min(start, end)
    step = (end - start) / count if count else 0.0
    return [(start + step * index, min(start + step * (index + 1), end)) for index in range(count)]


def ends_sentence(text: str) -> bool:
    """Whether a word ends a sentence, by its punctuation."""
    return text.rstrip(_CLOSERS)[-1:] in _SENTENCE_ENDS


def columns(text: str) -> int:
    """The width of ``text`` on a screen, where East Asian characters are two columns wide."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
