"""Asks a Prometheus everything that rules and dashboards ask, and says what has no answer."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from monitoring.dashboards import DASHBOARDS, FOLDER
from monitoring.live.prometheus import Prometheus
from monitoring.panel_queries import PanelQuery, panel_queries

SEEN_SECONDS = 120.0
"""The queue is measured every five seconds, and then comes a scrape, later where the machine is busy."""

MAY_BE_EMPTY = {
    "careca_tls_certificate_expiry_timestamp_seconds": "the services of one machine talk without TLS",
    "namespace_job_pod:careca_gpu_memory:ratio": "there may be no GPU; what the rule gives is tested by promtool",
}
"""Metrics and rules that may have no value here, and why. A query that asks for one may have no answer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One question and whether it has an answer, which is a number."""

    name: str
    expr: str
    answered: bool

    @property
    def excuse(self) -> str:
        """Why there may be none, empty where there has to be one."""
        return next((reason for metric, reason in MAY_BE_EMPTY.items() if metric in self.expr), "")

    @property
    def wrong(self) -> bool:
        """Whether there is no answer and no excuse."""
        return not self.answered and not self.excuse


def all_queries(seconds: float) -> list[PanelQuery]:
    """All that the committed dashboards ask, about so many seconds."""
    window = f"{math.ceil(seconds)}s"
    boards = [json.loads((FOLDER / f"{name}.json").read_text()) for name in DASHBOARDS]
    return [query for board in boards for query in panel_queries(board, rate_interval=window, time_range=window)]


def findings(prometheus: Prometheus, since: float) -> Iterator[Finding]:
    """Every query of every panel and every recording rule, asked now about the time since then (seconds since 1970)."""
    now = time.time()
    for query in all_queries(now - since):
        yield Finding(query.name, query.expr, _answered(prometheus, query.expr, now))
    for rule in prometheus.rules():
        if rule["type"] == "recording":
            yield Finding(f"rule {rule['name']}", rule["name"], _answered(prometheus, rule["name"], now))


def findings_once_seen(prometheus: Prometheus, since: float) -> list[Finding]:
    """The same, once nothing is wrong any more: what has happened is scraped later. What then still is, is wrong."""
    deadline = time.monotonic() + SEEN_SECONDS
    while True:
        found = list(findings(prometheus, since))
        if not any(each.wrong for each in found) or time.monotonic() > deadline:
            return found
        time.sleep(1.0)


def sick_rules(prometheus: Prometheus) -> list[str]:
    """Rules that could not be evaluated, alerts too."""
    return [f"{rule['name']}: {rule.get('lastError', '')}" for rule in prometheus.rules() if rule["health"] != "ok"]


def report(found: Sequence[Finding]) -> str:
    """What to tell of all findings."""
    empty = [each for each in found if not each.answered]
    lines = [f"{len(found) - len(empty)} of {len(found)} questions have an answer."]
    lines += [f"  none, and need not: {each.name} ({each.excuse})" for each in empty if each.excuse]
    lines += [f"  NO ANSWER: {each.name}\n    {each.expr}" for each in empty if each.wrong]
    return "\n".join(lines)


def _answered(prometheus: Prometheus, expr: str, at: float) -> bool:
    return any(map(math.isfinite, prometheus.values(expr, at)))
