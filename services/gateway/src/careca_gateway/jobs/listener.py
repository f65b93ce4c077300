"""Merges the events of a call's job from two sources, an attempt in this process and the queue, without duplicates."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from careca.types import Job, Progress, Segment, Stage, StageState
from careca_gateway.pipeline.port import Emit
from careca_gateway.request import Completed, PipelineEvent

ANSWER_SECONDS = 1.0
"""How long the worker waits for the answer to be sent before it stores the result: both need the processors."""

_NOT_STARTED = (StageState.WAITING, StageState.SKIPPED)


class JobListener:
    """Takes the events of an attempt, and of the same job from the queue, which may be older or newer.

    Segments are emitted once and in order. The progress of a stage never decreases, also if the job starts again.

    Args:
        emit: is called with each new event.
        call_ended: is set when the call has ended.
    """

    def __init__(self, emit: Emit, call_ended: asyncio.Event) -> None:
        self._emit = emit
        self._call_ended = call_ended
        self._fractions: dict[Stage, float] = {}
        self._emitted_segments = 0
        self._from_attempt = 0
        self._from_queue = 0
        self.completed: asyncio.Future[Completed[Any]] = asyncio.get_running_loop().create_future()
        """The result of an attempt in this process."""
        self.no_attempt = asyncio.Event()
        """Set while no attempt runs in this process."""
        self.no_attempt.set()

    def attempt_started(self) -> None:
        """An attempt has started."""
        self._from_attempt = 0
        self.no_attempt.clear()

    def attempt_ended(self) -> None:
        """The attempt has ended. May be called twice."""
        self.no_attempt.set()

    def add(self, event: PipelineEvent) -> None:
        """Takes an event of the attempt."""
        match event:
            case Segment():
                self._from_attempt += 1
                self._add_segment(self._from_attempt, event)
            case Progress():
                self._add_progress(event)

    async def complete(self, completed: Completed[Any]) -> None:
        """Takes the attempt's result. Returns when the call has ended, or after ``ANSWER_SECONDS``."""
        if not self.completed.done():
            self.completed.set_result(completed)
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._call_ended.wait()

    def add_from_queue(self, content: Job | Segment) -> None:
        """Takes an event of the queue. The events begin with the job's first segment."""
        if isinstance(content, Segment):
            self._from_queue += 1
            self._add_segment(self._from_queue, content)
            return
        for stage in content.stages:
            if stage.state not in _NOT_STARTED:
                self._add_progress(Progress(stage.stage, 0.0))
                self._add_progress(Progress(stage.stage, stage.progress))

    def _add_segment(self, number: int, segment: Segment) -> None:
        if number > self._emitted_segments:
            self._emitted_segments = number
            self._emit(segment)

    def _add_progress(self, progress: Progress) -> None:
        if progress.fraction > self._fractions.get(progress.stage, -1.0):
            self._fractions[progress.stage] = progress.fraction
            self._emit(progress)
