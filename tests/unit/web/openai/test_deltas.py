"""The text of a stream: what was sent, and what is missing at the end."""

from __future__ import annotations

import pytest

from careca.types import Segment
from careca_web.openai.streaming import Deltas


def segment(start: float, text: str, language: str = "en") -> Segment:
    return Segment(start, start + 1.0, text, language=language)


def test_segments_are_separated_by_spaces() -> None:
    deltas = Deltas()

    assert [deltas.add(segment(0.0, " Hello. ")), deltas.add(segment(1.0, "Bye."))] == ["Hello.", " Bye."]
    assert deltas.text == "Hello. Bye."


def test_a_segment_without_text_sends_nothing() -> None:
    deltas = Deltas()

    assert deltas.add(segment(0.0, "  ")) == ""
    assert deltas.text == ""


def test_languages_without_spaces_have_none() -> None:
    deltas = Deltas()

    assert [deltas.add(segment(start, "你好", "zh")) for start in (0.0, 1.0)] == ["你好", "你好"]


def test_segments_that_a_repeated_call_sends_again_are_sent_once() -> None:
    deltas = Deltas()
    deltas.add(segment(0.0, "one"))
    deltas.add(segment(1.0, "two"))
    deltas.restart()

    assert [deltas.add(segment(float(start), text)) for start, text in enumerate(("one", "two", "three"))] == [
        "",
        "",
        " three",
    ]


@pytest.mark.parametrize(
    ("sent", "full", "rest"),
    [
        ("one two", "one two", ""),
        ("one two", "one  two three", " three"),
        ("onetwo", "one two three", " three"),
        ("one two", "one", ""),
        ("one two", "two one three", ""),
        ("", "one", "one"),
        ("one", "", ""),
    ],
)
def test_the_rest_completes_the_text_if_it_begins_alike(sent: str, full: str, rest: str) -> None:
    deltas = Deltas()
    deltas.append(sent)

    assert deltas.rest_of(full) == rest
