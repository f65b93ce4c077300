"""What a call hears of its job: from an attempt in this process and from the queue, each thing told once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from careca.types import Job, Progress, Segment, Stage, StageState
from careca_gateway.pipeline.pipeline import Emit
from careca_gateway.request import Completed, PipelineEvent

ANSWER_SECONDS = 1.0
"""How long the storing of a result waits for the answer to be on its way: both need the processors."""

_NOT_BEGUN = (StageState.WAITING, StageState.SKIPPED)


class JobListener:
    """A ``AttemptListener`` that also hears what the queue says of the same job, which may be older or newer.

    Segments are told in order, and no stage goes back, however often the job is begun.

    Args:
        tell: told everything, once.
        answered: set once the call is over.
    """

    def __init__(self, tell: Emit, answered: asyncio.Event) -> None:
        self._tell = tell
        self._answered = answered
        self._fractions: dict[Stage, float] = {}
        self._told_segments = 0
        self._from_attempt = 0
        self._from_queue = 0
        self.completed: asyncio.Future[Completed[Any]] = asyncio.get_running_loop().create_future()
        """The result of an attempt in this process."""
        self.alone = asyncio.Event()
        """Set while there is no such attempt."""
        self.alone.set()

    def begun(self) -> None:
        """An attempt has begun."""
        self._from_attempt = 0
        self.alone.clear()

    def ended(self) -> None:
        """The attempt has ended."""
        self.alone.set()

    def tell(self, event: PipelineEvent) -> None:
        """The attempt tells what happened."""
        match event:
            case Segment():
                self._from_attempt += 1
                self._segment(self._from_attempt, event)
            case Progress():
                self._progress(event)

    async def complete(self, completed: Completed[Any]) -> None:
        """The attempt has the result. Returns when the call is over, or takes long to be."""
        if not self.completed.done():
            self.completed.set_result(completed)
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._answered.wait()

    def happened(self, what: Job | Segment) -> None:
        """The queue tells what happened, from the job's beginning."""
        if isinstance(what, Segment):
            self._from_queue += 1
            self._segment(self._from_queue, what)
            return
        for stage in what.stages:
            if stage.state not in _NOT_BEGUN:
                self._progress(Progress(stage.stage, 0.0))
                self._progress(Progress(stage.stage, stage.progress))

    def _segment(self, number: int, segment: Segment) -> None:
        if number > self._told_segments:
            self._told_segments = number
            self._tell(segment)

    def _progress(self, progress: Progress) -> None:
        if progress.fraction > self._fractions.get(progress.stage, -1.0):
            self._fractions[progress.stage] = progress.fraction
            self._tell(progress)
