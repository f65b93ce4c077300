"""Ranges of bytes in requests: which part a header names, and which headers are ignored."""

from __future__ import annotations

import pytest

from careca.errors import InvalidRequest
from careca_web.http.ranges import requested_range

SIZE = 100
TAG = '"abc"'


def part(value: str, if_range: str = TAG) -> tuple[int, int] | None:
    """The offset and the length that the headers ask for."""
    found = requested_range({"range": value, "if-range": if_range}, SIZE, TAG)
    return (found.offset, found.length) if found else None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 10)),
        ("bytes=90-", (90, 10)),
        ("bytes=90-1000", (90, 10)),
        ("bytes=-10", (90, 10)),
        ("bytes=-1000", (0, 100)),
        ("BYTES = 0 - 9", (0, 10)),
        ("bytes=99-99", (99, 1)),
    ],
)
def test_a_part_is_named_by_its_bounds_or_from_the_end(value: str, expected: tuple[int, int]) -> None:
    assert part(value) == expected


@pytest.mark.parametrize(
    "value",
    ["", "bytes=", "bytes=-", "bytes=9-0", "bytes=0-1,3-4", "items=0-9", "bytes=a-b", "bytes=" + "9" * 19 + "-"],
)
def test_other_headers_are_ignored(value: str) -> None:
    assert part(value) is None


@pytest.mark.parametrize("value", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_part_after_the_end_is_refused_with_the_size(value: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        part(value)
    assert (error.value.reason, error.value.metadata["size_bytes"]) == ("RANGE_NOT_SATISFIABLE", "100")


def test_an_empty_body_has_no_parts() -> None:
    with pytest.raises(InvalidRequest):
        requested_range({"range": "bytes=0-"}, 0, TAG)


def test_whoever_has_a_part_of_other_bytes_gets_all() -> None:
    assert part("bytes=10-19", if_range='"old"') is None


def test_without_a_range_the_whole_body_is_meant() -> None:
    assert requested_range({}, SIZE, TAG) is None


def test_the_answer_names_the_part() -> None:
    found = requested_range({"range": "bytes=10-19"}, SIZE, TAG)
    assert found
    assert found.content_range == "bytes 10-19/100"
