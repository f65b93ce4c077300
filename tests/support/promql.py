"""What a question to Prometheus names: enough of its language for tests that compare with what the code exports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SELECTOR = re.compile(r"\b((?:careca|process|namespace|up)[\w:]*)\b(?!\()(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\([^)]*\)")


@dataclass(frozen=True)
class Selector:
    """Some series: a metric's name, what its labels are compared with, and what stands right before it."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    before: str
    after: str


def selectors(expr: str) -> Iterator[Selector]:
    """All of an expression."""
    plain = _GROUPING.sub(lambda found: " " * len(found[0]), expr)
    for found in _SELECTOR.finditer(plain):
        if _within_braces(plain, found.start()):
            continue
        matchers = tuple(_MATCHER.findall(found[2] or ""))
        yield Selector(found[1], matchers, plain[: found.start()].rstrip(), plain[found.end() :].lstrip())


def wrong(expr: str, exported: dict[str, dict[str, set[str]]], scraped: set[str]) -> list[str]:
    """What an expression names that the code does not export: metrics, labels, and values that a label never has."""
    problems = []
    for selector in selectors(expr):
        if selector.metric not in exported:
            problems.append(selector.metric)
            continue
        labels = exported[selector.metric]
        for label, operation, value in selector.matchers:
            if label in scraped or label == "le":
                continue
            if label not in labels:
                problems.append(f"{selector.metric}{{{label}}}")
            elif operation == "=" and value not in labels[label]:
                problems.append(f"{selector.metric}{{{label}={value}}}")
            elif operation == "=~" and not all(_has(labels[label], each) for each in value.split("|")):
                problems.append(f"{selector.metric}{{{label}=~{value}}}")
    return problems


def _has(values: set[str], pattern: str) -> bool:
    return any(re.fullmatch(pattern, value) for value in values)


def _within_braces(text: str, position: int) -> bool:
    return text.rfind("{", 0, position) > text.rfind("}", 0, position)
