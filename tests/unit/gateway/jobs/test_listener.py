"""A call's listener merges the events of an attempt and of the queue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from careca.types import (
    Digest,
    Job,
    JobPriority,
    JobStage,
    JobState,
    Progress,
    Segment,
    Stage,
    StageReport,
    StageState,
)
from careca_gateway.jobs import listener as listener_module
from careca_gateway.jobs.listener import JobListener
from careca_gateway.request import Completed

SEGMENTS = tuple(Segment(float(n), n + 1.0, f"segment {n}") for n in range(4))
RESULT: Completed[Any] = Completed("the result", ())


class Listener(JobListener):
    """A listener with the events that it emitted."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.call_ended = asyncio.Event()
        super().__init__(self.told.append, self.call_ended)


@pytest.fixture
async def listener() -> Listener:
    return Listener()


def job(**fractions: float) -> Job:
    """A job whose stages have this progress. Stages without progress have not started."""
    stages = tuple(
        JobStage(stage, StageState.RUNNING, fractions[stage]) if stage in fractions else JobStage(stage)
        for stage in Stage
    )
    return Job("1", JobState.RUNNING, Digest("a" * 64, 1), "", "ana", JobPriority.INTERACTIVE, "r", 0.0, stages=stages)


async def test_events_from_both_the_attempt_and_the_queue_are_emitted_once(listener: Listener) -> None:
    listener.attempt_started()
    listener.add(Progress(Stage.DECODE, 0.0))
    for segment in SEGMENTS[:2]:
        listener.add(segment)
    for what in (job(decode=0.0), *SEGMENTS[:3], job(decode=0.5)):
        listener.add_from_queue(what)
    listener.add(SEGMENTS[2])
    listener.add(SEGMENTS[3])

    assert listener.told == [Progress(Stage.DECODE, 0.0), *SEGMENTS[:3], Progress(Stage.DECODE, 0.5), SEGMENTS[3]]


async def test_a_second_attempt_repeats_no_event_and_lowers_no_progress(listener: Listener) -> None:
    for _ in range(2):
        listener.attempt_started()
        for event in (Progress(Stage.TRANSCRIBE, 0.0), SEGMENTS[0], Progress(Stage.TRANSCRIBE, 0.6), SEGMENTS[1]):
            listener.add(event)
        listener.attempt_ended()

    assert listener.told == [Progress(Stage.TRANSCRIBE, 0.0), SEGMENTS[0], Progress(Stage.TRANSCRIBE, 0.6), SEGMENTS[1]]


async def test_a_stage_always_emits_zero_progress_first(listener: Listener) -> None:
    listener.add_from_queue(job())
    listener.add_from_queue(job(decode=1.0, diarize=0.25))

    assert listener.told == [
        Progress(Stage.DECODE, 0.0),
        Progress(Stage.DECODE, 1.0),
        Progress(Stage.DIARIZE, 0.0),
        Progress(Stage.DIARIZE, 0.25),
    ]


async def test_stage_reports_are_not_emitted(listener: Listener) -> None:
    listener.attempt_started()
    listener.add(StageReport(Stage.DECODE, StageState.SUCCEEDED, 1.0))

    assert listener.told == []


async def test_no_attempt_is_set_unless_an_attempt_is_running(listener: Listener) -> None:
    states = [listener.no_attempt.is_set()]
    for happen in (listener.attempt_started, listener.attempt_ended, listener.attempt_ended, listener.attempt_started):
        happen()
        states.append(listener.no_attempt.is_set())

    assert states == [True, False, True, True, False]


async def test_storing_a_result_waits_for_the_end_of_the_call(listener: Listener) -> None:
    storing = asyncio.create_task(listener.complete(RESULT))

    assert await listener.completed is RESULT
    await asyncio.sleep(0.01)
    assert not storing.done()
    listener.call_ended.set()
    await storing


async def test_storing_a_result_does_not_wait_forever(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "ANSWER_SECONDS", 0.01)

    await listener.complete(RESULT)

    assert listener.completed.result() is RESULT
