"""What a dashboard asks, as Grafana would ask it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ALL = ".+"
"""What Grafana puts in place of a variable where everything is chosen."""


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """One question of one panel, with the variables replaced."""

    dashboard: str
    panel: str
    letter: str
    expr: str
    legend: str

    @property
    def name(self) -> str:
        """What to call it."""
        return f"{self.dashboard}: {self.panel}, {self.letter}"


def panel_queries(
    board: Mapping[str, Any], *, rate_interval: str = "1m", time_range: str = "6h"
) -> Iterator[PanelQuery]:
    """All that a dashboard asks, with everything chosen."""
    values = {"$__rate_interval": rate_interval, "$__range": time_range, "$namespace": ALL, "$job": ALL, "$pod": ALL}
    for panel in board["panels"]:
        for target in panel["targets"]:
            expr = target["expr"]
            for variable, value in values.items():
                expr = expr.replace(variable, value)
            yield PanelQuery(board["title"], panel["title"], target["refId"], expr, target["legendFormat"])
