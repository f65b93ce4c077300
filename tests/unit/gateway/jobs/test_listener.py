"""What a call hears of its job from an attempt here and from the queue."""

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
from careca_gateway.jobs import listener as ear_module
from careca_gateway.jobs.listener import JobListener
from careca_gateway.request import Completed

SEGMENTS = tuple(Segment(float(n), n + 1.0, f"segment {n}") for n in range(4))
RESULT: Completed[Any] = Completed("the result", ())


class Listener(JobListener):
    """An ear, with what it told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.over = asyncio.Event()
        super().__init__(self.told.append, self.over)


@pytest.fixture
async def ear() -> Listener:
    return Listener()


def job(**fractions: float) -> Job:
    """A job whose stages are that far; those that are not named have not begun."""
    stages = tuple(
        JobStage(stage, StageState.RUNNING, fractions[stage]) if stage in fractions else JobStage(stage)
        for stage in Stage
    )
    return Job("1", JobState.RUNNING, Digest("a" * 64, 1), "", "ana", JobPriority.INTERACTIVE, "r", 0.0, stages=stages)


async def test_events_from_both_the_attempt_and_the_queue_are_emitted_once(ear: Listener) -> None:
    ear.attempt_started()
    ear.add(Progress(Stage.DECODE, 0.0))
    for segment in SEGMENTS[:2]:
        ear.add(segment)
    for what in (job(decode=0.0), *SEGMENTS[:3], job(decode=0.5)):
        ear.add_from_queue(what)
    ear.add(SEGMENTS[2])
    ear.add(SEGMENTS[3])

    assert ear.told == [Progress(Stage.DECODE, 0.0), *SEGMENTS[:3], Progress(Stage.DECODE, 0.5), SEGMENTS[3]]


async def test_a_second_attempt_repeats_no_event_and_lowers_no_progress(ear: Listener) -> None:
    for _ in range(2):
        ear.attempt_started()
        for event in (Progress(Stage.TRANSCRIBE, 0.0), SEGMENTS[0], Progress(Stage.TRANSCRIBE, 0.6), SEGMENTS[1]):
            ear.add(event)
        ear.attempt_ended()

    assert ear.told == [Progress(Stage.TRANSCRIBE, 0.0), SEGMENTS[0], Progress(Stage.TRANSCRIBE, 0.6), SEGMENTS[1]]


async def test_a_stage_always_emits_zero_progress_first(ear: Listener) -> None:
    ear.add_from_queue(job())
    ear.add_from_queue(job(decode=1.0, diarize=0.25))

    assert ear.told == [
        Progress(Stage.DECODE, 0.0),
        Progress(Stage.DECODE, 1.0),
        Progress(Stage.DIARIZE, 0.0),
        Progress(Stage.DIARIZE, 0.25),
    ]


async def test_stage_reports_are_not_emitted(ear: Listener) -> None:
    ear.attempt_started()
    ear.add(StageReport(Stage.DECODE, StageState.SUCCEEDED, 1.0))

    assert ear.told == []


async def test_no_attempt_is_set_unless_an_attempt_is_running(ear: Listener) -> None:
    states = [ear.no_attempt.is_set()]
    for happen in (ear.attempt_started, ear.attempt_ended, ear.attempt_ended, ear.attempt_started):
        happen()
        states.append(ear.no_attempt.is_set())

    assert states == [True, False, True, True, False]


async def test_storing_a_result_waits_for_the_end_of_the_call(ear: Listener) -> None:
    storing = asyncio.create_task(ear.complete(RESULT))

    assert await ear.completed is RESULT
    await asyncio.sleep(0.01)
    assert not storing.done()
    ear.over.set()
    await storing


async def test_storing_a_result_does_not_wait_forever(ear: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ear_module, "ANSWER_SECONDS", 0.01)

    await ear.complete(RESULT)

    assert ear.completed.result() is RESULT
