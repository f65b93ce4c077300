"""What `python -m bench.live long` counts as an error."""

from __future__ import annotations

import pytest

from bench.common.report import Report
from bench.live.long import Named, report_named
from careca.types import Word


def named(*spoken: tuple[str, float, str, str]) -> Named:
    """For each person, start, first label and last label: a minute of words."""
    found = Named()
    for person, start, first, last in spoken:
        for number in range(150):
            begin = start + 0.4 * number
            found.words.append((person, Word("word", begin, begin + 0.4, speaker=first)))
            found.labels.append(last)
    found.step_seconds = [0.1] * 7200
    return found


@pytest.mark.parametrize(
    ("spoken", "shared", "split", "forgotten"),
    [
        ([("a", 0, "A", "A"), ("b", 60, "B", "B"), ("a", 1300, "A", "A")], "0", "0", "0"),
        ([("a", 0, "A", "A"), ("b", 60, "A", "A")], "1", "0", "0"),
        ([("a", 0, "A", "A"), ("a", 60, "A", "A"), ("a", 120, "B", "B")], "0", "1", "0"),
        ([("a", 0, "A", "A"), ("a", 60, "A", "A"), ("a", 120, "B", "A")], "0", "0", "0"),  # corrected
        ([("a", 0, "A", "A"), ("a", 60, "A", "A"), ("a", 1400, "B", "A")], "0", "0", "1"),
    ],
)
def test_people_who_are_joined_split_and_forgotten_are_counted(
    spoken: list[tuple[str, float, str, str]], shared: str, split: str, forgotten: str
) -> None:
    report = Report()

    report_named(report, named(*spoken))

    assert [row[2] for row in report.rows] == [shared, split, forgotten]
