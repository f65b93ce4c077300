"""The progress of one attempt: its stages, and the segments that the queue does not know yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from careca.errors import CarecaError
from careca.types import JobStage, Progress, Segment, Stage, StageReport, StageState
from careca_gateway.jobs.listener import JobListener
from careca_gateway.jobs.queue.port import Lease, Outcome, Update
from careca_gateway.request import Completed, PipelineEvent


def first_stages() -> tuple[JobStage, ...]:
    """Returns the stages of a new job."""
    return tuple(JobStage(stage) for stage in Stage)


def stages_to_repeat(stages: Iterable[JobStage]) -> tuple[JobStage, ...]:
    """Returns the stages of a job that is queued again: those that succeeded stay, the others wait."""
    return tuple(
        stage
        if stage.state is StageState.SUCCEEDED
        else JobStage(stage.stage, attempts=stage.attempts, seconds=stage.seconds)
        for stage in stages
    )


class JobProgress:
    """Stages and segments of one attempt.

    Args:
        lease: the job, with the number of segments that earlier attempts reported. Those are not reported again.
        listener: gets all events; ``None`` if no call waits here.
    """

    def __init__(self, lease: Lease, listener: JobListener | None = None) -> None:
        self._lease = lease
        self._listener = listener
        self.completed = False
        """Whether there is a result, which may not be stored yet."""
        self._stages = {stage.stage: stage for stage in (lease.job.stages or first_stages())}
        self._started: set[Stage] = set()
        self._changed = False
        self._segment_count = 0
        self._segments: list[Segment] = []
        self._reported_segments = lease.reported_segments

    @property
    def stages(self) -> tuple[JobStage, ...]:
        """The stages as they are now, in order of execution."""
        return tuple(self._stages[stage] for stage in Stage if stage in self._stages)

    def add(self, event: PipelineEvent) -> None:
        """Takes an event of the pipeline."""
        if self._listener:
            self._listener.add(event)
        match event:
            case Segment():
                self._segment_count += 1
                if self._segment_count > self._lease.reported_segments:
                    self._segments.append(event)
            case Progress():
                self._add_progress(event)
            case StageReport():
                self._add_report(event)

    async def complete(self, completed: Completed[Any]) -> None:
        """Takes the result. Returns when it is time to store it."""
        self.completed = True
        if self._listener:
            await self._listener.complete(completed)

    def fail(self, error: CarecaError) -> None:
        """Ends the stages of an attempt that failed. The running stage gets ``error`` unless another one has failed."""
        failed = failed_stages(self.stages)
        for stage in self.stages:
            if stage.state is StageState.RUNNING and not failed:
                self._set(
                    replace(stage, state=StageState.FAILED, error_reason=error.reason, error_message=error.message)
                )
                failed = True
            elif stage.state in (StageState.RUNNING, StageState.WAITING):
                self._set(replace(stage, state=StageState.SKIPPED))

    def update(self) -> Update:
        """Returns what the queue does not know yet, which then counts as reported."""
        stages = self.stages if self._changed else None
        self._changed = False
        reported = self._reported_segments
        return Update(self._lease.job.id, self._lease.fence, stages, self._take_segments(), reported)

    def undo(self, update: Update) -> None:
        """Takes back ``update``, which did not reach the queue."""
        self._changed = self._changed or update.stages is not None
        self._segments[:0] = update.segments
        self._reported_segments -= len(update.segments)

    def conclude(self, outcome: Outcome) -> Outcome:
        """Returns ``outcome`` with the segments that the queue does not know yet. They then count as reported."""
        reported = self._reported_segments
        return replace(outcome, segments=self._take_segments(), reported_segments=reported)

    def _take_segments(self) -> tuple[Segment, ...]:
        segments, self._segments = tuple(self._segments), []
        self._reported_segments += len(segments)
        return segments

    def _add_progress(self, progress: Progress) -> None:
        stage = self._stages[progress.stage]
        if progress.stage not in self._started:
            self._started.add(progress.stage)
            stage = JobStage(progress.stage, attempts=stage.attempts + 1)
        self._set(replace(stage, state=StageState.RUNNING, progress=progress.fraction))

    def _add_report(self, report: StageReport) -> None:
        stage = self._stages[report.stage]
        done = report.state is StageState.SUCCEEDED
        self._set(
            replace(
                stage,
                state=report.state,
                progress=1.0 if done else stage.progress,
                seconds=report.seconds,
                cached=report.cached,
                error_reason=report.error_reason,
                error_message=report.error_message,
            )
        )

    def _set(self, stage: JobStage) -> None:
        self._stages[stage.stage] = stage
        self._changed = True


def failed_stages(stages: Sequence[JobStage]) -> bool:
    """Returns whether a stage failed."""
    return any(stage.state is StageState.FAILED for stage in stages)
