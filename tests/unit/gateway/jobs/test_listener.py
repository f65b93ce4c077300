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


class Heard(JobListener):
    """An ear, with what it told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.over = asyncio.Event()
        super().__init__(self.told.append, self.over)


@pytest.fixture
async def ear() -> Heard:
    return Heard()


def job(**fractions: float) -> Job:
    """A job whose stages are that far; those that are not named have not begun."""
    stages = tuple(
        JobStage(stage, StageState.RUNNING, fractions[stage]) if stage in fractions else JobStage(stage)
        for stage in Stage
    )
    return Job("1", JobState.RUNNING, Digest("a" * 64, 1), "", "ana", JobPriority.INTERACTIVE, "r", 0.0, stages=stages)


async def test_what_the_attempt_and_the_queue_both_say_is_told_once(ear: Heard) -> None:
    ear.begun()
    ear.tell(Progress(Stage.DECODE, 0.0))
    for segment in SEGMENTS[:2]:
        ear.tell(segment)
    for what in (job(decode=0.0), *SEGMENTS[:3], job(decode=0.5)):
        ear.happened(what)
    ear.tell(SEGMENTS[2])
    ear.tell(SEGMENTS[3])

    assert ear.told == [Progress(Stage.DECODE, 0.0), *SEGMENTS[:3], Progress(Stage.DECODE, 0.5), SEGMENTS[3]]


async def test_an_attempt_that_begins_anew_repeats_nothing_and_takes_nothing_back(ear: Heard) -> None:
    for _ in range(2):
        ear.begun()
        for event in (Progress(Stage.TRANSCRIBE, 0.0), SEGMENTS[0], Progress(Stage.TRANSCRIBE, 0.6), SEGMENTS[1]):
            ear.tell(event)
        ear.ended()

    assert ear.told == [Progress(Stage.TRANSCRIBE, 0.0), SEGMENTS[0], Progress(Stage.TRANSCRIBE, 0.6), SEGMENTS[1]]


async def test_a_stage_whose_beginning_the_queue_left_out_is_told_from_its_beginning(ear: Heard) -> None:
    ear.happened(job())
    ear.happened(job(decode=1.0, diarize=0.25))

    assert ear.told == [
        Progress(Stage.DECODE, 0.0),
        Progress(Stage.DECODE, 1.0),
        Progress(Stage.DIARIZE, 0.0),
        Progress(Stage.DIARIZE, 0.25),
    ]


async def test_reports_are_left_to_the_result(ear: Heard) -> None:
    ear.begun()
    ear.tell(StageReport(Stage.DECODE, StageState.SUCCEEDED, 1.0))

    assert ear.told == []


async def test_the_ear_is_alone_unless_an_attempt_goes_on(ear: Heard) -> None:
    states = [ear.alone.is_set()]
    for happen in (ear.begun, ear.ended, ear.ended, ear.begun):
        happen()
        states.append(ear.alone.is_set())

    assert states == [True, False, True, True, False]


async def test_a_result_is_stored_once_the_call_is_over(ear: Heard) -> None:
    storing = asyncio.create_task(ear.complete(RESULT))

    assert await ear.completed is RESULT
    await asyncio.sleep(0.01)
    assert not storing.done()
    ear.over.set()
    await storing


async def test_a_result_is_stored_though_the_call_does_not_end(ear: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ear_module, "ANSWER_SECONDS", 0.01)

    await ear.complete(RESULT)

    assert ear.completed.result() is RESULT
