"""The real stack: short interactive recordings while the longest conversation is transcribed as batch work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.common import audio, dataset
from bench.common.dataset import Recording
from bench.common.harness import Bench, announce, running_stack
from bench.common.report import Report
from bench.common.tables import seconds, table
from careca.errors import InternalError
from careca.types import SAMPLE_RATE, Job, JobState, Stage
from careca_client import Client

SHORT_SECONDS = 9.0
SHORTS = 10
SHORT_GOAL = 2.0
LONG_GOAL = 1.05


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: of each short recording alone and beside the long one, of the long one alone, and of everything."""

    alone: list[float]
    beside: list[float]
    long_alone: float
    together: float


async def measure(report: Report) -> None:
    """Everything alone, then everything at once."""
    recordings = dataset.find()
    dataset.require_labelled(recordings, "the scheduling of real work")
    times = await asyncio.to_thread(_measure, recordings)
    short = sum(times.beside) / sum(times.alone)
    everything = times.long_alone + sum(times.alone)
    report.limit(
        f"a recording of {SHORT_SECONDS:.0f} s beside the longest conversation, over alone",
        f"at most {SHORT_GOAL:g}",
        f"{short:.2f}",
        met=short <= SHORT_GOAL,
    )
    report.limit(
        f"the longest conversation with {SHORTS} short ones in between, over all one after the other",
        f"at most {LONG_GOAL:g}",
        f"{times.together / everything:.2f}",
        met=times.together <= LONG_GOAL * everything,
    )
    rows = [
        [f"{SHORTS} short ones, mean", seconds(sum(times.alone) / SHORTS), seconds(sum(times.beside) / SHORTS)],
        [f"{SHORTS} short ones, slowest", seconds(max(times.alone)), seconds(max(times.beside))],
        ["longest conversation, and all", seconds(times.long_alone), seconds(times.together)],
    ]
    report.tables.append(table(["real stack", "alone", "together"], rows))


def longest(recordings: list[Recording]) -> Recording:
    """The longest conversation."""
    return max(dataset.conversations(recordings), key=lambda each: len(audio.decode(each.path)))


def shorts(recordings: list[Recording]) -> list[Recording]:
    """The recordings of readers whose length is nearest to that of a voice note."""

    def distance(recording: Recording) -> float:
        return abs(len(audio.decode(recording.path)) / SAMPLE_RATE - SHORT_SECONDS)

    return sorted(dataset.read_speech(recordings), key=distance)[:SHORTS]


def _measure(recordings: list[Recording]) -> Times:
    long, short = longest(recordings), shorts(recordings)
    with running_stack() as bench:
        bench.client.transcribe(short[0].path, skip_cache=True)  # the first task of a process is slower
        alone = [_timed(partial(_transcribe, bench.client, each)) for each in short]
        announce(f"short ones alone: {sum(alone):.1f} s")
        long_alone = _timed(lambda: _wait(bench, bench.client.submit(long.path, skip_cache=True)))
        announce(f"{long.name} alone: {long_alone:.1f} s")
        began = time.monotonic()
        job = bench.client.submit(long.path, skip_cache=True)
        _wait_for_progress(bench, job)
        with bench.new_client() as client:
            beside = [_timed(partial(_transcribe, client, each)) for each in short]
        if bench.client.job(job.id).state is not JobState.RUNNING:
            raise InternalError("the long recording ended before the short ones: nothing was measured")
        _wait(bench, job)
        return Times(alone, beside, long_alone, time.monotonic() - began)


def _transcribe(client: Client, recording: Recording) -> None:
    client.transcribe(recording.path, skip_cache=True)


def _wait(bench: Bench, job: Job) -> None:
    *_, last = bench.client.watch(job.id)
    if not isinstance(last, Job) or last.state is not JobState.SUCCEEDED:
        raise InternalError(f"the job {job.id} did not succeed: {last}")


def _wait_for_progress(bench: Bench, job: Job) -> None:
    """Returns once both models work on the job."""
    for event in bench.client.watch(job.id):
        moved = {each.stage for each in event.stages if each.progress > 0} if isinstance(event, Job) else set()
        if {Stage.TRANSCRIBE, Stage.DIARIZE} <= moved:
            return


def _timed(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began
