"""Texts as they are compared in searches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca_gateway.jobs.search import words_of
from careca_gateway.jobs.texts import normalize


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("Olá, Você!", "ola, voce!"),
        ("OLA", "ola"),
        ("STRASSE", "straße"),
        ("İstanbul", "istanbul"),
        ("ΣΊΣΥΦΟΣ", "σισυφος"),
        ("ﬁancé", "fiance"),
        ("cafe\u0301", "café"),
        ("한국어", "한국어"),
        ("مَرْحَبًا", "مرحبا"),
    ],
)
def test_case_accents_and_forms_make_no_difference(written: str, same: str) -> None:
    assert normalize(written) == normalize(same)


@pytest.mark.parametrize(("one", "other"), [("no", "on"), ("n", "m"), ("東京", "京都")])
def test_other_letters_make_a_difference(one: str, other: str) -> None:
    assert normalize(one) != normalize(other)


@given(st.text())
def test_a_normalized_text_stays_as_it_is(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


@pytest.mark.parametrize(
    ("query", "words"),
    [("", ()), (" \t\n", ()), ("Olá  VOCÊ", ("ola", "voce")), ("a A á", ("a",)), ("\u0301", ())],
)
def test_a_query_is_split_into_different_words(query: str, words: tuple[str, ...]) -> None:
    assert words_of(query) == words
