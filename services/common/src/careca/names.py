"""The rules for names that callers give: of recordings, models and speakers. Pure functions."""

from __future__ import annotations

import re
import unicodedata

from careca.errors import InvalidRequest

MAX_SPEAKER_NAME_CHARACTERS = 100
"""Largest length of a speaker's name."""

_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that names must not contain: controls, surrogates, line and paragraph separators."""

_DIRECTION_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of the following text, even after the name. Direction marks are allowed."""

_LABEL = re.compile(r"SPEAKER_\d+")


def is_nameable(character: str) -> bool:
    """Whether a name may contain this character: it cannot break lines where the name is displayed."""
    return unicodedata.category(character) not in _FORBIDDEN_CATEGORIES and character not in _DIRECTION_CONTROLS


def check_name(name: str, most_characters: int, field: str) -> None:
    """Raises ``InvalidRequest`` if ``name`` is too long or has characters that could break its display."""
    if len(name) > most_characters:
        raise InvalidRequest(f"{field} has {len(name)} characters; at most {most_characters} are accepted", field=field)
    if not all(map(is_nameable, name)):
        raise InvalidRequest(f"{field} must not contain control characters or line breaks", field=field)


def check_speaker_name(name: str, field: str) -> None:
    """Raises ``InvalidRequest`` if ``name`` is not one that a person may have in a result."""
    check_name(name, MAX_SPEAKER_NAME_CHARACTERS, field)
    if not name or name != name.strip():
        raise InvalidRequest(f"{field} must not be empty and must not start or end with a space", field=field)
    if is_label(name):
        raise InvalidRequest(f"{field} is {name}, which is reserved for unknown speakers", field=field)


def is_label(name: str) -> bool:
    """Whether ``name`` has the form of the labels of unknown speakers."""
    return _LABEL.fullmatch(name) is not None


def as_field(name: str) -> str:
    """Returns a name as NIST's formats have it: without spaces. Speakers' names differ even in this form."""
    return "_".join(name.split())
