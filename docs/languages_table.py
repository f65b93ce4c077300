"""Writes what people call the languages that Whisper knows: services/common/src/careca/languages.tsv.

.venv/bin/python docs/languages_table.py

The names come from the Unicode CLDR, by Babel: each language's name in each of the others. Two names that differ only
in accents, case and signs count as one. Babel has 36 MB of data for what is 150 kB here, so nothing that is deployed
needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

from babel import Locale
from babel.core import get_global
from babel.localedata import locale_identifiers
from faster_whisper.tokenizer import _LANGUAGE_CODES

from careca.languages import COUNTRY, TABLE, key_of

CODES = sorted(_LANGUAGE_CODES)
"""Whisper's own codes: those of ISO 639-1, but for jw, which is jv today, and haw and yue, which have none there."""

OTHER_CODES = {"jv": "jw", "nb": "no", "fil": "tl"}
"""What CLDR calls languages that Whisper knows by another code. Bokmål is what is mostly meant by Norwegian."""

OTHER_TAGS = {"yue": ["zh-yue"]}
"""Tags of two parts that begin with the code of another language."""

AMBIGUOUS = {"sh", "hbs"}
"""Codes of several languages that Whisper tells apart: Serbo-Croatian."""

MORE_NAMES = {
    "az": ["Azeri"],
    "be": ["Belorussian"],
    "bn": ["Bengali"],
    "ca": ["Valencian"],
    "es": ["Castilian", "castellano"],
    "fa": ["Farsi"],
    "ht": ["Haitian"],
    "id": ["bahasa Indonesia"],
    "lb": ["Letzeburgesch"],
    "ms": ["bahasa Melayu", "bahasa Malaysia"],
    "my": ["Myanmar"],
    "nl": ["Flemish", "Vlaams"],
    "nn": ["Nynorsk"],
    "no": ["bokmål"],
    "pa": ["Panjabi"],
    "ps": ["Pushto"],
    "ro": ["Moldavian", "Moldovan"],
    "si": ["Sinhalese"],
    "sl": ["Slovene"],
    "so": ["Af-Soomaali"],
    "yue": ["广东话", "廣東話"],
    "zh": ["Mandarin", "普通话", "普通話", "国语", "國語", "汉语", "漢語"],
}
"""Names that CLDR lacks, those that OpenAI's Whisper takes among them."""

HEADER = """\
# Written by docs/languages_table.py: do not edit. One line a language: its code; other codes; its name in English, in
# itself, and in other languages. The names are those of the Unicode CLDR by Babel, under the Unicode License v3:
# copyright Unicode, Inc., https://www.unicode.org/license.txt
"""


def table() -> str:
    """The whole file."""
    locales = {code: _locale(code) for code in CODES}
    names = {code: list(_names(code, locales)) for code in CODES}
    owners: dict[str, set[str]] = {}
    for code, some in names.items():
        for name in some:
            owners.setdefault(key_of(name), set()).add(code)
    return HEADER + "".join(f"{_line(code, some, owners)}\n" for code, some in names.items())


def _line(code: str, names: Sequence[str], owners: Mapping[str, Set[str]]) -> str:
    """One language, with each of its names once that no other language has; ``names`` has the two main ones first."""
    first = {key_of(name): name for name in reversed(names) if len(owners[key_of(name)]) == 1}
    others = sorted(set(first.values()) - set(names[:2]))
    return "\t".join([code, " ".join(_other_codes(code)), *names[:2], *others])


def _names(code: str, locales: Mapping[str, Locale | None]) -> Iterator[str]:
    """The name in English, the language's own, and all others, those of the language in some country among them."""
    english, own = Locale.parse("en"), locales[code]
    main = _main_name(english, code)
    yield main
    yield (_main_name(own, code) if own else "") or main
    for locale in (english, *locales.values()):
        if locale is not None:
            for tag, name in sorted(locale.languages.items()):
                if tag.partition("_")[0] in _tags(code):
                    yield COUNTRY.sub("", name)
    yield from MORE_NAMES.get(code, ())


def _main_name(locale: Locale, code: str) -> str:
    return next((locale.languages[tag] for tag in _tags(code) if tag in locale.languages), "")


def _tags(code: str) -> list[str]:
    """CLDR's codes of the language, Whisper's own first."""
    return [code, *(other for other, whispers in OTHER_CODES.items() if whispers == code)]


def _locale(code: str) -> Locale | None:
    known = set(locale_identifiers())
    return next((Locale.parse(tag) for tag in _tags(code) if tag in known), None)


def _other_codes(code: str) -> list[str]:
    aliases = get_global("language_aliases")
    found = {
        alias
        for alias, tag in aliases.items()
        if alias.isalpha() and len(alias) <= 3 and tag.partition("_")[0] in _tags(code) and alias not in AMBIGUOUS
    }
    return sorted({*found, *_tags(code)} - set(CODES)) + OTHER_TAGS.get(code, [])


if __name__ == "__main__":
    Path(TABLE).write_text(table(), encoding="utf-8")
