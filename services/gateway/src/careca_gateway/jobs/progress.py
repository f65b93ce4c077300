"""What a worker has learned of a job that it holds, until the queue has been told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from careca.errors import CarecaError
from careca.types import JobStage, Progress, Segment, Stage, StageReport, StageState
from careca_gateway.jobs.queue.port import Lease, Outcome, Update
from careca_gateway.request import Completed, PipelineEvent


class AttemptListener(Protocol):
    """Somebody in this process who waits for a job, and is told of an attempt here sooner than by the queue."""

    def begun(self) -> None:
        """An attempt has begun: what follows is from it."""

    def tell(self, event: PipelineEvent) -> None:
        """What happened, from the attempt's beginning."""

    async def complete(self, completed: Completed[Any]) -> None:
        """The result, which is still to be stored. Returns when that does not delay the answer any more."""

    def ended(self) -> None:
        """The attempt has ended: the queue knows how, or hears of it now. May be said twice."""


def first_stages() -> tuple[JobStage, ...]:
    """The stages of a job that nobody has worked on."""
    return tuple(JobStage(stage) for stage in Stage)


def stages_to_repeat(stages: Iterable[JobStage]) -> tuple[JobStage, ...]:
    """The stages of a job that is queued again: what succeeded stays, the rest waits."""
    return tuple(
        stage
        if stage.state is StageState.SUCCEEDED
        else JobStage(stage.stage, attempts=stage.attempts, seconds=stage.seconds)
        for stage in stages
    )


class JobProgress:
    """Stages and segments of one attempt.

    Args:
        lease: the job and how many of its segments were told before; those are not told again.
        listener: is told everything; ``None`` where nobody waits here.
    """

    def __init__(self, lease: Lease, listener: AttemptListener | None = None) -> None:
        self._lease = lease
        self._listener = listener
        self.completed = False
        """Whether there is a result, though it may not be stored yet."""
        self._stages = {stage.stage: stage for stage in (lease.job.stages or first_stages())}
        self._begun: set[Stage] = set()
        self._changed = False
        self._heard_segments = 0
        self._segments: list[Segment] = []
        self._told_segments = lease.reported_segments

    @property
    def stages(self) -> tuple[JobStage, ...]:
        """The stages as they are now, in order of execution."""
        return tuple(self._stages[stage] for stage in Stage if stage in self._stages)

    def tell(self, event: PipelineEvent) -> None:
        """Takes what happened."""
        if self._listener:
            self._listener.tell(event)
        match event:
            case Segment():
                self._heard_segments += 1
                if self._heard_segments > self._lease.reported_segments:
                    self._segments.append(event)
            case Progress():
                self._progress(event)
            case StageReport():
                self._ended(event)

    async def complete(self, completed: Completed[Any]) -> None:
        """Takes the result. Returns when it is time to store it."""
        self.completed = True
        if self._listener:
            await self._listener.complete(completed)

    def fail(self, error: CarecaError) -> None:
        """Takes the end of the attempt by ``error``: the stage that ran is to blame, unless one told that it failed."""
        blamed = any(stage.state is StageState.FAILED for stage in self._stages.values())
        for stage in self.stages:
            if stage.state is StageState.RUNNING and not blamed:
                failed = replace(stage, state=StageState.FAILED, error_reason=error.reason, error_message=error.message)
                self._set(failed)
                blamed = True
            elif stage.state in (StageState.RUNNING, StageState.WAITING):
                self._set(replace(stage, state=StageState.SKIPPED))

    def update(self) -> Update:
        """What the queue does not know yet; it then counts as told."""
        stages = self.stages if self._changed else None
        self._changed = False
        told = self._told_segments
        return Update(self._lease.job.id, self._lease.fence, stages, self._take_segments(), told)

    def untold(self, update: Update) -> None:
        """Takes back ``update``, which did not reach the queue."""
        self._changed = self._changed or update.stages is not None
        self._segments[:0] = update.segments
        self._told_segments -= len(update.segments)

    def conclude(self, outcome: Outcome) -> Outcome:
        """``outcome`` with the segments that the queue was not told of; they then count as told."""
        told = self._told_segments
        return replace(outcome, segments=self._take_segments(), reported_segments=told)

    def _take_segments(self) -> tuple[Segment, ...]:
        segments, self._segments = tuple(self._segments), []
        self._told_segments += len(segments)
        return segments

    def _progress(self, progress: Progress) -> None:
        stage = self._stages[progress.stage]
        if progress.stage not in self._begun:
            self._begun.add(progress.stage)
            stage = JobStage(progress.stage, attempts=stage.attempts + 1)
        self._set(replace(stage, state=StageState.RUNNING, progress=progress.fraction))

    def _ended(self, report: StageReport) -> None:
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
    """Whether a stage failed."""
    return any(stage.state is StageState.FAILED for stage in stages)
