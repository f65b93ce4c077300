"""Languages by codes, tags and names."""

from __future__ import annotations

import pytest
from babel import Locale
from faster_whisper.tokenizer import _LANGUAGE_CODES
from hypothesis import given
from hypothesis import strategies as st

from careca import codec, languages
from careca.errors import InvalidRequest
from careca.types import TranscriptionOptions
from careca.v1 import audio_pb2
from languages_table import table

WRITTEN = {
    "pt": "pt PT pt-BR pt_BR pt-br PT_pt por Portuguese PORTUGUESE portuguese português portugues Português portugais"
    " portugués Portugiesisch pt_BR.UTF-8",
    "de": "de DE de-AT deu ger German Deutsch DEUTSCH allemand alemán alemão de_DE@euro",
    "en": "en EN en-US en_GB.UTF-8 eng English anglais inglés inglês englisch",
    "ja": "ja jpn Japanese 日本語 japonais",
    "zh": "zh zh-TW zh-Hant zh-Hans-CN zh_CN.GB18030 zho chi cmn Chinese 中文 Mandarin 普通话",
    "yue": "yue yue-HK zh-yue Cantonese 粵語",
    "jw": "jw jv jv-ID jav Javanese",
    "haw": "haw HAW Hawaiian",
    "he": "he iw heb Hebrew עברית",
    "no": "no nb nb-NO nor nob Norwegian norsk bokmål",
    "nn": "nn nno nn_NO nynorsk",
    "tl": "tl fil tgl Tagalog Filipino",
    "el": "el ell gre Greek Ελληνικά ελληνικα",
    "hi": "hi hin Hindi हिन्दी हिंदी",
    "ar": "ar ar-EG ara arb Arabic العربية",
    "ru": "ru rus Russian русский РУССКИЙ",
    "fa": "fa fas per Persian Farsi فارسی",
    "nl": "nl nl-BE nld dut Dutch Nederlands Flemish Vlaams",
}


@pytest.mark.parametrize(("code", "written"), [(code, each) for code, all_ in WRITTEN.items() for each in all_.split()])
def test_codes_tags_and_names_mean_the_language(code: str, written: str) -> None:
    assert languages.code_of(written) == code
    assert languages.code_of(f"  {written} ") == code


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("Brazilian Portuguese", "pt"),
        ("Portuguese (Brazil)", "pt"),
        ("português (Brasil)", "pt"),
        ("中文（繁體）", "zh"),  # noqa: RUF001
        ("Simplified Chinese", "zh"),
        ("Haitian Creole", "ht"),
        ("Norwegian Nynorsk", "nn"),
        ("Tiếng Việt", "vi"),
        ("tieng viet", "vi"),
        ("bahasa Indonesia", "id"),
        ("o'zbek", "uz"),
        ("Af-Soomaali", "so"),
        ("eng-IND", "en"),
    ],
)
def test_names_of_several_words_and_with_a_country_mean_the_language(written: str, code: str) -> None:
    assert languages.code_of(written) == code


@pytest.mark.parametrize("written", ["", " ", "x", "xx", "E!", "Klingon", "pt BR pt", "sh", "1", "(pt)", "x" * 10**6])
def test_an_unknown_language_is_none(written: str) -> None:
    assert languages.code_of(written) is None


def test_all_languages_of_whisper_are_known_by_code_by_english_name_and_by_their_own() -> None:
    english = Locale.parse("en")
    for code in _LANGUAGE_CODES:
        assert languages.code_of(code) == code
        assert languages.code_of(languages.name_of(code)) == code
    for code in set(_LANGUAGE_CODES) - {"jw"}:
        assert languages.code_of(english.languages[code]) == code
        assert languages.code_of(Locale.parse(code).languages[code]) == code


def test_no_name_is_the_code_of_another_language() -> None:
    rows = [line.split("\t") for line in languages.TABLE.read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    codes = {code: row[0] for row in rows for code in (row[0], *row[1].split())}
    names = {languages.key_of(name): row[0] for row in rows for name in row[2:]}

    assert {name for name in names.keys() & codes.keys() if names[name] != codes[name]} == set()
    assert "" not in names


def test_the_table_is_what_the_library_of_names_says() -> None:
    assert languages.TABLE.read_text(encoding="utf-8") == table(), "run `make languages`"


@pytest.mark.parametrize(
    ("written", "near"),
    [
        ("Portugese", "Portuguese (pt)"),
        ("portugês", "Portuguese (pt)"),
        ("Duetsch", "German (de)"),
        ("Engish", "English (en)"),
        ("ptt", "Portuguese (pt)"),
    ],
)
def test_the_error_for_an_unknown_language_suggests_similar_ones(written: str, near: str) -> None:
    assert near in languages.unknown(written)


def test_the_error_lists_all_languages_if_none_is_similar() -> None:
    sentence = languages.unknown("xx")

    assert all(f" {code}," in sentence or f" {code};" in sentence for code in _LANGUAGE_CODES)
    assert len(sentence) < 1000


def test_a_long_text_is_neither_searched_nor_repeated() -> None:
    assert len(languages.unknown("Portuguese" * 10_000)) < 1000


def test_all_names_of_a_language_give_the_same_request() -> None:
    decoded = {
        codec.decode_transcription_options(audio_pb2.TranscriptionOptions(language_code=written))
        for written in WRITTEN["pt"].split()
    }

    assert decoded == {TranscriptionOptions(language="pt")}


def test_an_unknown_language_is_refused_by_field() -> None:
    with pytest.raises(InvalidRequest) as caught:
        codec.decode_transcription_options(audio_pb2.TranscriptionOptions(language_code="Portugese"), "config.options")

    assert (caught.value.reason, caught.value.field) == ("UNKNOWN_LANGUAGE", "config.options.language_code")
    assert "config.options.language_code: 'Portugese' is not a known language" in caught.value.message


@given(st.text(max_size=120))
def test_any_text_is_a_language_or_gives_an_error_message(text: str) -> None:
    code = languages.code_of(text)

    assert code in _LANGUAGE_CODES if code else len(languages.unknown(text)) < 1000
