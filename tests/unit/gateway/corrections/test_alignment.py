"""The words of corrected texts: recognised words keep their times, others get times between them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca.types import Utterance, Word
from careca_gateway.corrections import alignment
from careca_gateway.corrections.alignment import Sources, has_words, words_of
from careca_gateway.corrections.pieces import pieces

HELLO = Utterance(
    1.0,
    4.0,
    "Hello there, old friend.",
    "Ana",
    (
        Word("Hello", 1.0, 1.5, 0.9, "Ana"),
        Word("there,", 1.6, 2.0, 0.8, "Ana"),
        Word("old", 2.2, 2.6, 0.7, "Ana"),
        Word("friend.", 3.0, 4.0, 0.6, "Ana"),
    ),
    "en",
)
WEATHER = Utterance(
    0.0,
    3.0,
    "今日は天気がいい。",
    "Ana",
    (
        Word("今日", 0.0, 0.6, 0.9, "Ana"),
        Word("は", 0.6, 0.8, 0.9, "Ana"),
        Word("天気", 1.0, 1.6, 0.8, "Ana"),
        Word("が", 1.6, 1.8, 0.9, "Ana"),
        Word("いい。", 2.0, 3.0, 0.7, "Ana"),
    ),
    "ja",
)


def corrected(text: str, of: Utterance = HELLO) -> list[tuple[str, float | None, float | None, float | None]]:
    """Returns text, start, end and probability of the words after the text was changed."""
    words = words_of(replace(of, text=text), Sources([of]))
    return [(word.text, word.start, word.end, word.probability) for word in words]


def test_the_words_of_an_unchanged_text_are_kept() -> None:
    assert words_of(HELLO, Sources(())) == HELLO.words
    assert words_of(WEATHER, Sources(())) == WEATHER.words


def test_case_and_punctuation_change_the_text_of_a_word_only() -> None:
    assert corrected("hello there! Old friend?") == [
        ("hello", 1.0, 1.5, 0.9),
        ("there!", 1.6, 2.0, 0.8),
        ("Old", 2.2, 2.6, 0.7),
        ("friend?", 3.0, 4.0, 0.6),
    ]


def test_a_word_that_replaces_another_gets_its_time() -> None:
    assert corrected("Hello Bea, old friend.")[1] == ("Bea,", 1.6, 2.0, None)


def test_words_that_replace_fewer_words_share_their_time_by_length() -> None:
    words = corrected("Hello there, my best friend.")

    assert [word[0] for word in words] == ["Hello", "there,", "my", "best", "friend."]
    assert words[2][1:] == (2.2, pytest.approx(2.2 + 0.4 / 3), None)
    assert words[3][1:] == (pytest.approx(2.2 + 0.4 / 3), 2.6, None)


def test_an_inserted_word_gets_the_pause_between_its_neighbors() -> None:
    assert corrected("Hello there, old dear friend.")[3] == ("dear", 2.6, 3.0, None)


def test_words_at_the_ends_get_the_rest_of_the_utterance() -> None:
    longer = replace(HELLO, start=0.5, end=5.0, text="Oh, hello there, old friend. Bye")

    words = words_of(longer, Sources([HELLO]))

    assert (words[0].text, words[0].start, words[0].end) == ("Oh,", 0.5, 1.0)
    assert (words[-1].text, words[-1].start, words[-1].end) == ("Bye", 4.0, 5.0)


def test_a_removed_word_takes_nothing_from_the_others() -> None:
    assert corrected("Hello there, friend.") == [
        ("Hello", 1.0, 1.5, 0.9),
        ("there,", 1.6, 2.0, 0.8),
        ("friend.", 3.0, 4.0, 0.6),
    ]


def test_a_text_without_recognised_words_is_spread_over_the_utterance() -> None:
    words = words_of(Utterance(2.0, 4.0, "ab cd ef gh", "Bob"), Sources(()))

    assert [(word.text, word.start, word.end, word.speaker) for word in words] == [
        ("ab", 2.0, 2.5, "Bob"),
        ("cd", 2.5, 3.0, "Bob"),
        ("ef", 3.0, 3.5, "Bob"),
        ("gh", 3.5, 4.0, "Bob"),
    ]


def test_words_written_without_spaces_are_kept_around_a_change() -> None:
    assert corrected("今日の天気がいい。", WEATHER) == [
        ("今日", 0.0, 0.6, 0.9),
        ("の", 0.6, 0.8, None),
        ("天気", 1.0, 1.6, 0.8),
        ("が", 1.6, 1.8, 0.9),
        ("いい。", 2.0, 3.0, 0.7),
    ]


def test_a_word_without_spaces_that_was_cut_keeps_the_time_of_the_rest() -> None:
    words = corrected("今朝は天気がいい。", WEATHER)

    assert [word[0] for word in words] == ["今", "朝", "は", "天気", "が", "いい。"]
    assert words[0][1:] == (0.0, 0.3, None)
    assert words[1][1:] == (0.3, 0.6, None)


def test_corrected_words_are_found_in_their_text_in_all_scripts() -> None:
    for text in ("今日 は天気", "Pythonは良い。Goも", "สวัสดีครับ", "don't well-known  x"):
        utterance = Utterance(0.0, 2.0, " ".join(text.split()), "Ana")
        assert has_words(utterance.text, words_of(utterance, Sources([WEATHER, HELLO])))


def test_a_word_of_several_recognised_ones_keeps_them_all() -> None:
    known = Utterance(
        0.0,
        3.0,
        "a well-known man",
        "Ana",
        (
            Word("a", 0.0, 0.5, 0.5, "Ana"),
            Word("well", 1.0, 1.5, 0.5, "Ana"),
            Word("-known", 2.0, 2.5, 0.5, "Ana"),
            Word("man", 2.6, 3.0, 0.5, "Ana"),
        ),
    )

    words = words_of(replace(known, text="a well-known woman"), Sources([known]))

    assert words[:3] == known.words[:3]
    assert (words[3].text, words[3].start, words[3].end) == ("woman", 2.6, 3.0)


def test_the_words_of_others_at_the_same_time_are_not_taken() -> None:
    other = replace(HELLO, speaker="Bob", words=tuple(replace(word, start=3.9, end=4.0) for word in HELLO.words))

    words = words_of(replace(HELLO, text="Hello you, old friend."), Sources([HELLO, other]))

    assert [word.start for word in words] == [1.0, 1.6, 2.2, 3.0]


def test_an_utterance_that_was_given_away_keeps_the_times_of_its_words() -> None:
    words = words_of(replace(HELLO, text="Hello there, old friends.", speaker="Bob"), Sources([HELLO]))

    assert [(word.start, word.speaker) for word in words] == [(1.0, "Bob"), (1.6, "Bob"), (2.2, "Bob"), (3.0, "Bob")]


def test_a_text_that_is_too_long_to_compare_is_spread_between_its_equal_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "MAX_COMPARED", 3)

    words = corrected("Hello now, friend.")
    assert words == [("Hello", 1.0, 1.5, 0.9), ("now,", 1.6, 2.6, None), ("friend.", 3.0, 4.0, 0.6)]
    assert corrected("Hello old there, friend.")[1:3] == [
        ("old", 1.6, pytest.approx(1.6 + 1 / 3), None),
        ("there,", pytest.approx(1.6 + 1 / 3), 2.6, None),
    ]


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("a way", ("a", "way"), True),
        ("away", ("a", "way"), True),
        ("a way", ("away",), False),
        ("a way out", ("a", "way"), False),
        ("a way", ("a", "way", "out"), False),
        ("a way", ("a", "", "way"), False),
        ("a way", (), False),
        ("今日は", ("今日", "は"), True),
    ],
)
def test_words_are_those_of_a_text_or_not(text: str, words: tuple[str, ...], expected: bool) -> None:
    assert has_words(text, tuple(map(Word, words))) is expected


letters = st.text("abcü.,!- 今日はいสวั", min_size=1, max_size=30).map(lambda text: " ".join(text.split())).filter(bool)
moments = st.integers(0, 5000).map(lambda milliseconds: milliseconds / 1000)
spoken_words = st.builds(Word, letters.map(lambda text: text.split()[0]), st.none() | moments, st.none() | moments)


@st.composite
def utterances(draw: st.DrawFn) -> Utterance:
    start, end = sorted((draw(moments), draw(moments)))
    words = tuple(draw(st.lists(spoken_words, min_size=1, max_size=8)))
    return Utterance(
        start, end, " ".join(word.text for word in words), draw(st.sampled_from(["Ana", "Bob", None])), words
    )


@given(utterances(), st.lists(utterances(), max_size=3), letters)
def test_times_of_corrected_words_are_in_order_and_in_their_utterance(
    utterance: Utterance, sources: list[Utterance], text: str
) -> None:
    for changed in (utterance, replace(utterance, text=text)):
        words = words_of(changed, Sources(sorted(sources, key=lambda each: each.start)))

        assert has_words(changed.text, words)
        assert "".join(word.text for word in words) == "".join(changed.text.split())
        times = [(word.start, word.end) for word in words]
        assert all(changed.start <= start <= end <= changed.end for start, end in times)  # type: ignore[operator]
        assert all(before[0] <= after[0] for before, after in pairwise(times))  # type: ignore[operator]
        assert {word.speaker for word in words} == {changed.speaker}


@given(st.lists(st.sampled_from(["one", "two", "three", "four"]), min_size=1, max_size=8, unique=False), st.data())
def test_recognised_words_keep_their_times_when_words_are_inserted(texts: list[str], data: st.DataObject) -> None:
    words = tuple(Word(text, at + 0.1, at + 0.9, 0.5, "Ana") for at, text in enumerate(texts))
    utterance = Utterance(0.0, float(len(texts)), " ".join(texts), "Ana", words)
    place = data.draw(st.integers(0, len(texts)))

    changed = words_of(replace(utterance, text=" ".join([*texts[:place], "new", *texts[place:]])), Sources([utterance]))

    assert changed[:place] + changed[place + 1 :] == words


@given(letters)
def test_pieces_are_the_text_without_spaces(text: str) -> None:
    found = pieces(text)

    assert "".join(piece.text for piece in found) == "".join(text.split())
    assert sum(piece.begins for piece in found) == len(text.split())
