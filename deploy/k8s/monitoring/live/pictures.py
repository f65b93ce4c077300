"""Draws what the panels of a dashboard show, from a Prometheus: a picture for each dashboard."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image

from monitoring.live.prometheus import Prometheus
from monitoring.panel_queries import PanelQuery, panel_queries

DPI = 70
COLOURS = 128
WIDTH_INCHES, STAT_INCHES, PICTURE_INCHES = 13.0, 1.0, 2.6
RATE_INTERVAL = "10s"
STEP_SECONDS = 1.0

Line = tuple[str, list[tuple[float, float]]]
"""What a line is called, and its points: seconds from the start, and a value."""

_BYTE_STEPS = ("B", "KiB", "MiB", "GiB", "TiB")


def draw(board: Mapping[str, Any], prometheus: Prometheus, start: float, end: float, target: Path) -> None:
    """Writes the picture of ``board`` between two times, in seconds since 1970, as PNG."""
    queries = list(panel_queries(board, rate_interval=RATE_INTERVAL, time_range=f"{math.ceil(end - start)}s"))
    by_panel = {panel["title"]: [each for each in queries if each.panel == panel["title"]] for panel in board["panels"]}
    stats = [panel for panel in board["panels"] if panel["type"] == "stat"]
    graphs = [panel for panel in board["panels"] if panel["type"] != "stat"]
    rows = math.ceil(len(graphs) / 2)
    figure = pyplot.figure(figsize=(WIDTH_INCHES, STAT_INCHES + rows * PICTURE_INCHES), layout="constrained")
    heights = [STAT_INCHES, rows * PICTURE_INCHES]
    (top,), (below,) = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)
    for axes, panel in zip(top.subplots(1, len(stats)), stats, strict=True):
        _draw_stat(axes, panel, prometheus.values(by_panel[panel["title"]][0].expr, end))
    places = iter(below.subplots(rows, 2, squeeze=False).flat)
    for panel, axes in zip(graphs, places, strict=False):
        _draw_graph(axes, panel, _lines(by_panel[panel["title"]], prometheus, start, end))
        axes.set_xlim(0, end - start)
    for axes in places:
        axes.set_axis_off()
    figure.suptitle(board["title"])
    _save(figure, target)


def shown(value: float, unit: str) -> str:
    """A value as Grafana would show it."""
    if not math.isfinite(value):
        return "-"
    match unit:
        case "percentunit":
            return f"{100 * value:.3g} %"
        case "bytes" | "Bps":
            power = min(int(math.log(max(1.0, abs(value)), 1024)), len(_BYTE_STEPS) - 1)
            return f"{value / 1024**power:.4g} {_BYTE_STEPS[power]}{'/s' if unit == 'Bps' else ''}"
        case "s":
            return f"{value:.3g} s"
        case "reqps" | "ops":
            return f"{value:.3g}/s"
        case _:
            return f"{value:.3g}"


def _draw_stat(axes: Axes, panel: Mapping[str, Any], values: list[float]) -> None:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    words = {
        value: text["text"]
        for each in panel["fieldConfig"]["defaults"]["mappings"]
        for value, text in each["options"].items()
    }
    value = values[0] if values else math.nan
    text = words.get(f"{value:g}", shown(value, unit))
    axes.set_axis_off()
    axes.set_title(panel["title"], fontsize=10)
    axes.text(0.5, 0.4, text, ha="center", va="center", fontsize=20, color="tab:green", transform=axes.transAxes)


def _save(figure: Figure, target: Path) -> None:
    """As a small file: lines and letters do not need many colours."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI)
    pyplot.close(figure)
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(target, optimize=True)


def _lines(queries: Sequence[PanelQuery], prometheus: Prometheus, start: float, end: float) -> list[Line]:
    lines = []
    for query in queries:
        for labels, points in prometheus.series(query.expr, start, end, STEP_SECONDS):
            lines.append((_legend(query.legend, labels), list(_with_gaps(points, start))))
    return lines


def _with_gaps(points: Sequence[tuple[float, float]], start: float) -> Iterator[tuple[float, float]]:
    """Points from ``start`` on, and where there were none something that is not drawn."""
    before = math.inf
    for moment, value in points:
        if moment - before > 1.5 * STEP_SECONDS:
            yield before + STEP_SECONDS - start, math.nan
        yield moment - start, value
        before = moment


def _draw_graph(axes: Axes, panel: Mapping[str, Any], lines: Sequence[Line]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    for legend, points in lines:
        axes.plot(*zip(*points, strict=True), label=legend, linewidth=1)
    axes.set_title(panel["title"], fontsize=10)
    top = max((value for _, points in lines for _, value in points if math.isfinite(value)), default=0.0) or 1.0
    axes.set_ylim(-0.03 * top, 1.05 * top)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, defaults["unit"])))
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0, frameon=False)
    else:
        axes.text(0.5, 0.5, "nothing here", ha="center", va="center", transform=axes.transAxes, color="grey")


def _legend(pattern: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], "").removeprefix("/careca.v1."), pattern)
