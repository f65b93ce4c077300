"""The languages that Whisper knows, by whatever people call them: codes, tags and names.

``pt``, ``PT``, ``por``, ``pt-BR``, ``pt_BR.UTF-8``, ``Portuguese``, ``português`` and ``portugais`` are one language.
The table of names is written by docs/languages_table.py.
"""

from __future__ import annotations

import re
import unicodedata
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("languages.tsv")
"""One line a language: its code; other codes of it; its names, the first in English, the second its own."""

MAX_CHARACTERS = 100
"""Longer texts are no language, and not looked into."""

_SHOWN_CHARACTERS = 40
_NEAREST = 3

# A language tag of RFC 5646 without its rarer parts, or a POSIX locale, which may end with an encoding and a modifier.
_TAG = re.compile(r"([a-z]{2,3}(?:[-_][a-z0-9]{1,8})*)(?:\.[a-z0-9-]+)?(?:@[a-z]+)?", re.IGNORECASE | re.ASCII)

COUNTRY = re.compile(r"\s*[(（].*")  # noqa: RUF001 -- the full-width bracket is meant
"""What may follow a language's name in brackets: where it is spoken, or how it is written."""


class _Known(NamedTuple):
    codes: dict[str, str]
    """Whisper's code for each code."""
    names: dict[str, str]
    """Whisper's code for the key of each name."""
    near: dict[str, str]
    """Likewise for English and own names alone, which unknown ones are compared with."""
    english: dict[str, str]
    """The English name for each of Whisper's codes."""


def code_of(text: str) -> str | None:
    """Whisper's code of the language that ``text`` means, ``None`` where it is none that is known.

    That is the language's ISO 639-1 code but for ``haw``, ``yue`` and ``jw`` (Javanese). What a tag says beside the
    language, such as the country, is passed over.
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
    """The language's name in English, for people; the code itself where it is unknown."""
    return _known().english.get(code, code)


def unknown(text: str) -> str:
    """A sentence: ``text`` is no language that is known, these are the nearest, and this is what can be given."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    if near := _nearest(text):
        these = f"nearest are {', '.join(f'{name_of(code)} ({code})' for code in near)}"
    else:
        these = f"known are {', '.join(_known().english)}"
    return (
        f"{shown!r} is no language that is known; {these}; give a code such as pt or pt-BR or a name such as"
        " Portuguese, or nothing to have it detected"
    )


def key_of(name: str) -> str:
    """``name`` without case, accents, spaces and signs: names that differ only in these are the same."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(
        each for each in letters if not unicodedata.combining(each) and unicodedata.category(each)[0] in "LMN"
    )


def _nearest(text: str) -> list[str]:
    """Codes of the languages whose names or codes are nearest to ``text``, the nearest first; mostly some."""
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
