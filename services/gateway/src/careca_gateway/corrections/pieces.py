"""The pieces of a text that are compared when words are aligned. Pure functions.

With spaces between words, a piece is what stands between two spaces. In scripts without them, it is one character with
the marks and punctuation after it, because only a model knows where words begin there, and two of its words may differ
from those of a corrected text.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

_UNSPACED_SCRIPTS = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "THAI", "LAO", "MYANMAR", "KHMER", "TIBETAN")
"""How the Unicode names of the letters begin that are written without spaces between words."""


class Piece(NamedTuple):
    """A piece of a text."""

    text: str
    begins: bool
    """Whether white space, or nothing, is before it."""


def pieces(text: str) -> list[Piece]:
    """Returns the pieces of ``text``, in order. Together they are the text without its white space."""
    return [Piece(part, index == 0) for token in text.split() for index, part in enumerate(_split(token))]


def comparable(text: str) -> str:
    """Returns what two pieces must have in common to be equal: neither case nor punctuation matters."""
    folded = text.casefold()
    return "".join(each for each in folded if unicodedata.category(each)[0] in "LMN") or folded


def _split(token: str) -> list[str]:
    found = [token[0]]
    for before, character in pairwise(token):
        begins = _is_unspaced(character) or _is_unspaced(before)
        if begins and unicodedata.category(character)[0] not in "MP":
            found.append(character)
        else:
            found[-1] += character
    return found


@lru_cache(maxsize=4096)
def _is_unspaced(character: str) -> bool:
    return unicodedata.category(character)[0] == "L" and unicodedata.name(character, "").startswith(_UNSPACED_SCRIPTS)
