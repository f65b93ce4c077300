"""The figures to reach, and whether a run reached them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.common.tables import mebibytes, milliseconds, minutes, seconds
from bench.system.results import Footprint, Report, Speed, Starts

OVERHEAD = 0.05
REPEAT_SECONDS = 0.05
GROWTH = 0.05
LEFT_AFTER_RELEASE = 0.5
UPLOAD_GROWTH_BYTES = 64 * 2**20
START_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Target:
    """One figure: what it is, its limit, what was measured and whether that is within."""

    figure: str
    limit: str
    measured: str
    reached: bool


def targets(report: Report) -> list[Target]:
    """All figures that the parts of ``report`` have measured."""
    speed = [] if report.speed is None else list(_speed(report.speed))
    memory = [] if report.memory is None else list(_memory(report.memory))
    start = [] if report.start is None else list(_start(report.start))
    return speed + memory + start


def _speed(speed: Speed) -> Iterator[Target]:
    overhead, repeats = speed.overhead, speed.repeats
    yield Target(
        f"gateway path over both engines called directly, {minutes(overhead.audio_seconds)} of audio",
        f"+{OVERHEAD:.0%}",
        f"{overhead.median:+.1%}",
        overhead.median <= OVERHEAD,
    )
    yield Target(
        f"second request, {minutes(repeats.audio_seconds)} of audio, no audio sent: median",
        milliseconds(REPEAT_SECONDS),
        f"{milliseconds(repeats.median_seconds)}, {repeats.uploaded_bytes} bytes",
        repeats.median_seconds <= REPEAT_SECONDS and repeats.uploaded_bytes == 0,
    )


def _memory(memory: Footprint) -> Iterator[Target]:
    for each in memory.services:
        yield Target(
            f"{each.service}: RSS after {memory.same_tasks} tasks over after the first",
            f"+{GROWTH:.0%}",
            f"{each.same_growth:+.1%}",
            each.same_growth <= GROWTH,
        )
        yield Target(
            f"{each.service}: the same after {memory.different_tasks} more on different recordings",
            f"+{GROWTH:.0%}",
            f"{each.different_growth:+.1%}",
            each.different_growth <= GROWTH,
        )
    for each in memory.services:
        if each.service != "gateway":
            yield Target(
                f"{each.service}: RSS after ReleaseMemory over its peak",
                f"{LEFT_AFTER_RELEASE:.0%}",
                f"{each.left_after_release:.0%}",
                each.left_after_release <= LEFT_AFTER_RELEASE,
            )
    yield Target(
        f"gateway: growth of RSS while {memory.upload.file_bytes / 2**30:g} GiB are uploaded",
        mebibytes(UPLOAD_GROWTH_BYTES),
        mebibytes(memory.upload.growth),
        memory.upload.growth < UPLOAD_GROWTH_BYTES,
    )


def _start(starts: Starts) -> Iterator[Target]:
    for each in starts.services:
        yield Target(
            f"{each.service}: from the start of the process until it is ready: median",
            seconds(START_SECONDS),
            seconds(each.median),
            each.median <= START_SECONDS,
        )
