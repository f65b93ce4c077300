"""What Grafana's dashboards are made of: panels with their queries, put into the JSON that Grafana reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 39
"""Of dashboards, as Grafana 10.4 writes them; later ones read it."""

COLUMNS = 24
"""How wide Grafana's grid is."""

GREEN, YELLOW, RED = "green", "yellow", "red"

ANSWERS_LIMITS = ((None, RED), (1, GREEN))
"""Colours for the number of pods, or of dependencies, that answer: none is red."""

FAILURES_LIMITS = ((None, GREEN), (0.05, RED))
"""Colours for the share of calls that failed: red from the share on that an alert names."""

PLACE = 'namespace=~"$namespace", job=~"$job", pod=~"$pod"'
"""What every query is bound to: the pods that are chosen at the top of a dashboard."""

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HEIGHTS = {"stat": 4, "timeseries": 8}


@dataclass(frozen=True, slots=True)
class Query:
    """One question to Prometheus, and how its answers are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture, or one number where ``kind`` is ``stat``.

    ``unit`` is Grafana's name of it. ``limits`` are values from which on the colour changes, from the least; a base
    colour comes first, without a value.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat"] = "timeseries"
    limits: tuple[tuple[float | None, str], ...] = ()
    maximum: float | None = None
    stacked: bool = False
    words: Mapping[int, str] = field(default_factory=dict)
    """What to show in place of some values."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Panels under a name; ``scope`` is a metric that those pods have which can be chosen."""

    uid: str
    title: str
    description: str
    scope: str
    panels: tuple[Panel, ...]
    job: str = ""
    """The service that is chosen at first; empty is all of them."""

    def to_json(self) -> dict[str, Any]:
        """What Grafana reads."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["careca"],
            "schemaVersion": SCHEMA_VERSION,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "browser",
            "annotations": {"list": []},
            "links": [_link_to_the_others()],
            "templating": {"list": _variables(self.scope, self.job)},
            "panels": _placed(self.panels),
        }


def select(metric: str, labels: str = "") -> str:
    """The series of a metric that belong to the chosen pods and have these labels."""
    return f"{metric}{{{PLACE}{', ' if labels else ''}{labels}}}"


def rate(metric: str, labels: str = "") -> str:
    """What a counter grows by in a second."""
    return f"rate({select(metric, labels)}[$__rate_interval])"


def total(metric: str, labels: str = "") -> str:
    """What a counter has grown by in the time that is looked at."""
    return f"increase({select(metric, labels)}[$__range])"


def summed(expr: str, *by: str) -> str:
    """The sum of counts, for each value of some labels."""
    return _over("sum", expr, by)


def shared(expr: str, *by: str) -> str:
    """One value of what every replica tells of the same thing: to add them up would count it several times."""
    return _over("max", expr, by)


def quantile(share: float, histogram: str, *by: str, labels: str = "") -> str:
    """What this share of observations was not above."""
    return f"histogram_quantile({share}, {summed(rate(f'{histogram}_bucket', labels), *by, 'le')})"


def ratio(part: str, whole: str) -> str:
    """A ratio of sums, and nothing where nothing was counted."""
    return f"{part} / ({whole} > 0)"


def _over(operation: str, expr: str, by: Sequence[str]) -> str:
    return f"{operation} by ({', '.join(by)}) ({expr})" if by else f"{operation}({expr})"


def _placed(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """Numbers four in a row, pictures two in a row, in order."""
    placed, x, y = [], 0, 0
    for number, panel in enumerate(panels, 1):
        width, height = COLUMNS // (4 if panel.kind == "stat" else 2), _HEIGHTS[panel.kind]
        placed.append(_panel(number, panel) | {"gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x = (x + width) % COLUMNS
        y += height if x == 0 else 0
    return placed


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "targets": [_target(chr(ord("A") + place), query, panel) for place, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
    }


def _target(letter: str, query: Query, panel: Panel) -> dict[str, Any]:
    return {
        "refId": letter,
        "datasource": _DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "instant": panel.kind == "stat",
        "range": panel.kind != "stat",
    }


def _field(panel: Panel) -> dict[str, Any]:
    steps = panel.limits or ((None, GREEN),)
    values: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]},
        "mappings": _mappings(panel.words),
    }
    if panel.maximum is not None:
        values["max"] = panel.maximum
    if panel.kind == "timeseries":
        values["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 10,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "thresholdsStyle": {"mode": "line" if panel.limits else "off"},
        }
    return values


def _mappings(words: Mapping[int, str]) -> list[dict[str, Any]]:
    options = {str(value): {"text": text} for value, text in words.items()}
    return [{"type": "value", "options": options}] if options else []


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "graphMode": "none"}
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}


def _variables(scope: str, job: str) -> list[dict[str, Any]]:
    datasource = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0}
    return [
        datasource,
        _labels("namespace", "Namespace", f"label_values({scope}, namespace)"),
        _labels("job", "Job", f'label_values({scope}{{namespace=~"$namespace"}}, job)', first=job),
        _labels("pod", "Pod", f'label_values({scope}{{namespace=~"$namespace", job=~"$job"}}, pod)'),
    ]


def _labels(name: str, label: str, query: str, first: str = "") -> dict[str, Any]:
    current = {"text": [first], "value": [first]} if first else {"text": ["All"], "value": ["$__all"]}
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": current,
        "hide": 0,
    }


def _link_to_the_others() -> dict[str, Any]:
    return {"type": "dashboards", "title": "Careca", "tags": ["careca"], "asDropdown": True, "keepTime": True}
