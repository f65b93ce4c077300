"""The languages that Whisper knows, by codes, tags and names.

``pt``, ``PT``, ``por``, ``pt-BR``, ``pt_BR.UTF-8``, ``Portuguese``, ``português`` and ``portugais`` are one language.
docs/languages_table.py generates the table of names.
"""

from __future__ import annotations

import re
import unicodedata
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("languages.tsv")
"""One line for each language: its code; its other codes; its names, first in English, then in the language itself."""

MAX_CHARACTERS = 100
"""Longer texts are rejected without a search."""

_SHOWN_CHARACTERS = 40
_NEAREST = 3

# A language tag of RFC 5646 without its rare parts, or a POSIX locale, which may have an encoding and a modifier.
_TAG = re.compile(r"([a-z]{2,3}(?:[-_][a-z0-9]{1,8})*)(?:\.[a-z0-9-]+)?(?:@[a-z]+)?", re.IGNORECASE | re.ASCII)

_UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km", "bo"})

COUNTRY = re.compile(r"\s*[(（].*")  # noqa: RUF001 -- the full-width bracket is meant
"""A suffix of a language's name in brackets, such as a country or a script."""


class _Known(NamedTuple):
    codes: dict[str, str]
    """Each code to Whisper's code."""
    names: dict[str, str]
    """The key of each name to Whisper's code."""
    near: dict[str, str]
    """The same for codes, English names and own names only, to suggest similar languages."""
    english: dict[str, str]
    """Each of Whisper's codes to the English name."""


def code_of(text: str) -> str | None:
    """Returns Whisper's code of the language ``text``, ``None`` if it is not known.

    This is the ISO 639-1 code, except for ``haw``, ``yue`` and ``jw`` (Javanese). The other parts of a tag, such as the
    country, are ignored.
    """
    if len(text) > MAX_CHARACTERS:
        return None
    known, text = _known(), text.strip()
    if code := known.names.get(key_of(COUNTRY.sub("", text))):
        return code
    tag = _TAG.fullmatch(text)
    language, *rest = re.split("[-_]", tag[1].lower()) if tag else [""]
    return known.codes.get(f"{language}-{rest[0]}" if rest else language) or known.codes.get(language)


def name_of(code: str) -> str:
    """Returns the English name of the language; the code itself if it is unknown."""
    return _known().english.get(code, code)


def is_unspaced(text: str, code: str) -> bool:
    """Returns whether ``text`` is written without spaces between words, and so between segments.

    ``code`` is the language spoken. Translations have spaces: they are in English.
    """
    return code in _UNSPACED and not text.isascii()


def names() -> dict[str, str]:
    """Returns the English name of each language, by Whisper's code."""
    return dict(_known().english)


def unknown(text: str) -> str:
    """Returns an error message for the unknown language ``text``, with similar languages and the accepted forms."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    if near := _nearest(text):
        suggestion = f"similar are {', '.join(f'{name_of(code)} ({code})' for code in near)}"
    else:
        suggestion = f"known are {', '.join(_known().english)}"
    return (
        f"{shown!r} is not a known language; {suggestion}; use a code such as pt or pt-BR or a name such as"
        " Portuguese, or leave it empty to detect the language"
    )


def key_of(name: str) -> str:
    """Returns ``name`` without case, accents, spaces and punctuation, for comparison."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(
        each for each in letters if not unicodedata.combining(each) and unicodedata.category(each)[0] in "LMN"
    )


def _nearest(text: str) -> list[str]:
    """Returns the codes of languages with a similar name or code, the most similar first."""
    if len(text) > MAX_CHARACTERS:
        return []
    near = get_close_matches(key_of(text), _known().near, n=2 * _NEAREST)
    return list(dict.fromkeys(_known().near[key] for key in near))[:_NEAREST]


@cache
def _known() -> _Known:
    known = _Known({}, {}, {}, {})
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            code, others, *names = line.split("\t")
            known.codes.update(dict.fromkeys([code, *others.split()], code))
            known.names.update(dict.fromkeys(map(key_of, names), code))
            known.near.update(dict.fromkeys([code, *map(key_of, names[:2])], code))
            known.english[code] = names[0]
    return known
