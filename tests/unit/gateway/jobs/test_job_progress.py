"""The progress of a job that the queue does not know yet."""

from __future__ import annotations

from dataclasses import replace

from careca.errors import InvalidRecording, Unavailable
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
from careca_gateway.jobs.progress import JobProgress, first_stages, stages_to_repeat
from careca_gateway.jobs.queue.port import Lease

JOB = Job("1", JobState.RUNNING, Digest("a" * 64, 1), "", "ana", JobPriority.BATCH, "r", 0.0, stages=first_stages())
SEGMENTS = [Segment(float(index), index + 1.0, str(index)) for index in range(3)]


def progress_of(job: Job = JOB, *, reported_segments: int = 0) -> JobProgress:
    return JobProgress(Lease(job, b"", 1, reported_segments, None))


def states(stages: tuple[JobStage, ...]) -> dict[Stage, StageState]:
    return {stage.stage: stage.state for stage in stages}


def test_a_stage_with_progress_is_running_and_counts_one_attempt() -> None:
    progress = progress_of()

    progress.add(Progress(Stage.DECODE, 0.0))
    progress.add(Progress(Stage.DECODE, 0.5))

    assert progress.stages[0] == JobStage(Stage.DECODE, StageState.RUNNING, progress=0.5, attempts=1)
    assert [stage.state for stage in progress.stages[1:]] == [StageState.WAITING] * 3


def test_a_stage_report_ends_the_stage() -> None:
    progress = progress_of()
    progress.add(Progress(Stage.DECODE, 0.4))

    progress.add(StageReport(Stage.DECODE, StageState.SUCCEEDED, 1.5, cached=True))

    assert progress.stages[0] == JobStage(
        Stage.DECODE, StageState.SUCCEEDED, progress=1.0, seconds=1.5, cached=True, attempts=1
    )


def test_a_further_attempt_counts_up_and_starts_from_zero() -> None:
    with_margin = JobStage(Stage.DECODE, StageState.WAITING, progress=0.0, seconds=3.0, attempts=2)
    progress = progress_of(replace(JOB, stages=(with_margin, *JOB.stages[1:])))

    progress.add(Progress(Stage.DECODE, 0.25))

    assert progress.stages[0] == JobStage(Stage.DECODE, StageState.RUNNING, progress=0.25, attempts=3)


def test_an_update_without_changes_only_renews_the_lease() -> None:
    progress = progress_of()
    progress.add(Progress(Stage.DECODE, 0.0))
    progress.add(SEGMENTS[0])

    first, second = progress.update(), progress.update()

    assert (first.stages, first.segments) == (progress.stages, (SEGMENTS[0],))
    assert (second.stages, second.segments) == (None, ())


def test_an_update_that_failed_is_reported_again_in_order() -> None:
    progress = progress_of()
    progress.add(Progress(Stage.DECODE, 0.0))
    progress.add(SEGMENTS[0])
    lost = progress.update()
    progress.add(SEGMENTS[1])

    progress.undo(lost)

    again = progress.update()
    assert (again.stages, again.segments) == (progress.stages, (SEGMENTS[0], SEGMENTS[1]))


def test_segments_of_an_earlier_attempt_are_not_reported_again() -> None:
    progress = progress_of(reported_segments=2)

    for segment in SEGMENTS:
        progress.add(segment)

    assert progress.update().segments == (SEGMENTS[2],)


def test_the_running_stage_gets_the_error() -> None:
    progress = progress_of()
    progress.add(Progress(Stage.DECODE, 0.1))

    progress.fail(InvalidRecording("no sound", reason="NO_AUDIO"))

    decode = progress.stages[0]
    assert (decode.state, decode.error_reason, decode.error_message) == (StageState.FAILED, "NO_AUDIO", "no sound")
    assert [stage.state for stage in progress.stages[1:]] == [StageState.SKIPPED] * 3


def test_only_a_stage_that_reported_its_failure_gets_the_error() -> None:
    progress = progress_of()
    progress.add(StageReport(Stage.DECODE, StageState.SUCCEEDED, 1.0))
    progress.add(Progress(Stage.TRANSCRIBE, 0.1))
    progress.add(StageReport(Stage.DIARIZE, StageState.FAILED, 1.0, error_reason="UNAVAILABLE", error_message="gone"))

    progress.fail(Unavailable("all gone"))

    assert states(progress.stages) == {
        Stage.DECODE: StageState.SUCCEEDED,
        Stage.TRANSCRIBE: StageState.SKIPPED,
        Stage.DIARIZE: StageState.FAILED,
        Stage.MERGE: StageState.SKIPPED,
    }
    assert progress.stages[2].error_message == "gone"


def test_only_stages_that_did_not_succeed_wait_again() -> None:
    stages = (
        JobStage(Stage.DECODE, StageState.SUCCEEDED, 1.0, 2.0, attempts=1),
        JobStage(Stage.TRANSCRIBE, StageState.FAILED, 0.5, 3.0, attempts=2, error_reason="X", error_message="y"),
        JobStage(Stage.DIARIZE, StageState.RUNNING, 0.5, attempts=1),
        JobStage(Stage.MERGE, StageState.SKIPPED),
    )

    again = stages_to_repeat(stages)

    assert again == (
        stages[0],
        JobStage(Stage.TRANSCRIBE, seconds=3.0, attempts=2),
        JobStage(Stage.DIARIZE, attempts=1),
        JobStage(Stage.MERGE),
    )
