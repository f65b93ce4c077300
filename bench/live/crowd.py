"""Many live sessions at once, with model services that only take time."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.common.fleet import Fleet
from bench.common.harness import announce
from bench.common.report import Report
from bench.common.tables import seconds, table
from bench.live import scores
from bench.live.playing import play, settings_for
from careca.types import SAMPLE_RATE
from careca_client import AsyncClient

SESSIONS = 64
SECONDS = 40.0
"""The length of each session."""
WINDOWS = ((0.0, None), (0.002, None), (0.004, None), (0.03, 0.002))
"""The seconds that a window takes at a model service. With a second figure, windows share batches: the first one is for
the batch then, and the second one for each window. The last case is like a GPU: 20 steps of a decoder of 1.5 ms each,
and a little for each window. A session asks for two windows of the transcriber and one of the diarizer each second."""
TASK_SECONDS = 0.05

LATENCY_RATIO = 1.5
SESSION_MB = 40.0


@dataclass(frozen=True, slots=True)
class _Crowd:
    """What sessions at the same time had."""

    interim: float
    """Mean seconds from the end of a word until it was shown."""
    final: float
    behind: float
    """Most seconds of audio that a session was behind."""
    session_mb: tuple[float, float]
    """Megabytes of RSS of all services and both Redis for each session, after a third of the time and at the end."""


async def measure_crowd(report: Report) -> None:
    """Talks in one session, and then in many, all at real time and without a pause."""
    rows = []
    for window, item in WINDOWS:
        settings = {
            "CARECA_TIMED_TALK": "1",
            "CARECA_TIMED_WINDOW_SECONDS": str(window),
            **({} if item is None else {"CARECA_TIMED_WINDOW_ITEM_SECONDS": str(item)}),
            **settings_for(SESSIONS),
        }
        takes = f"{1000 * window:g} ms" if item is None else f"{1000 * window:g} ms and {1000 * item:g} ms each"
        with (
            tempfile.TemporaryDirectory(prefix="careca-live-") as folder,
            Fleet(Path(folder), environment=settings, timed_seconds=TASK_SECONDS) as stack,
        ):
            async with AsyncClient(stack.targets[0]) as client:
                found = {count: await _talk(client, stack, count) for count in (1, SESSIONS)}
        for count, crowd in found.items():
            cells = [
                *map(seconds, (crowd.interim, crowd.final, crowd.behind)),
                *(f"{mb:.1f}" for mb in crowd.session_mb),
            ]
            rows.append([takes, str(count), *cells])
            announce(" | ".join(rows[-1]))
        one, many = found[1], found[SESSIONS]
        what = f"{SESSIONS} sessions over one, windows of {takes}: "
        for kind, ratio in (("interim", many.interim / one.interim), ("final", many.final / one.final)):
            measured = f"{ratio:.2f}"
            report.limit(
                f"{what}{kind} words after they were spoken", f"{LATENCY_RATIO}", measured, met=ratio <= LATENCY_RATIO
            )
        for moment, mb in zip(("after a third of the time", "at the end"), many.session_mb, strict=True):
            report.limit(
                f"RSS of all services and Redis for each of {SESSIONS} sessions, {moment}",
                f"{SESSION_MB:.0f} MB",
                f"{mb:.1f} MB",
                met=mb <= SESSION_MB,
            )
    head = [
        "a window takes",
        "sessions",
        "interim, mean",
        "final, mean",
        "furthest behind",
        "MB each, early",
        "in the end",
    ]
    report.tables.append(table(head, rows))


async def _talk(client: AsyncClient, stack: Fleet, count: int) -> _Crowd:
    samples = np.random.default_rng(1).integers(-9000, 9000, round(SECONDS * SAMPLE_RATE), np.int16)
    before = _megabytes(stack)
    async with asyncio.TaskGroup() as tasks:
        playing = [tasks.create_task(play(client, samples, delay=number / count)) for number in range(count)]
        await asyncio.sleep(SECONDS / 3)
        early = _megabytes(stack)
        await asyncio.sleep(SECONDS * 2 / 3)
        late = _megabytes(stack)
    sessions = [each.result() for each in playing]
    found = scores.delays_of_all(sessions)
    return _Crowd(
        interim=statistics.fmean(found.interim),
        final=statistics.fmean(found.final),
        behind=scores.furthest_behind(sessions, SECONDS),
        session_mb=((early - before) / count, (late - before) / count),
    )


def _megabytes(stack: Fleet) -> float:
    return sum(stack.rss().values()) / 1e6
