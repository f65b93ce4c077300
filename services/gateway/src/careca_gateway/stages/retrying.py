"""Model stages that wait for their service, as work that nobody waits for can."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, TypeVar

from careca.errors import CarecaError, Overloaded, Unavailable
from careca.telemetry.logs import get_logger
from careca.types import Segment
from careca_gateway.pipeline.pipeline import ModelStage, StageResult
from careca_gateway.request import Deadline, PipelineEvent
from careca_gateway.storage.store import StoredAudio

WAIT_SECONDS = 1.0
"""Longest pause before a service is asked again: a place that comes free is soon taken, and asking costs little."""

_log = get_logger(__name__)

O = TypeVar("O")  # noqa: E741 - options, as in the pipeline
M = TypeVar("M")


class RetryingStage(Generic[O, M]):
    """A ``ModelStage`` that delays work instead of failing it while its service is full or away.

    Args:
        stage: does the work.
        patience_seconds: how long that may last; then its error is raised after all.
    """

    def __init__(self, stage: ModelStage[O, M], *, patience_seconds: float) -> None:
        self._stage = stage
        self._patience_seconds = patience_seconds

    async def run(
        self, audio: StoredAudio, options: O, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | StageResult[M], None]:
        """What the stage tells; segments that were told before a service went away are not told again."""
        heard = _Heard()
        started = time.monotonic()
        while not heard.finished:
            try:
                running = self._stage.run(audio, options, skip_cache=skip_cache, deadline=deadline)
                async with aclosing(heard.news(running)) as events:
                    async for event in events:
                        yield event
            except (Overloaded, Unavailable) as error:
                wait = _wait_for(error)
                if time.monotonic() + wait > started + self._patience_seconds or not deadline.allows(wait):
                    raise
                _log.info("a stage waits for its service", reason=error.reason, error=error.message)
                await asyncio.sleep(wait)


class _Heard:
    """What was told in the course of several tries."""

    def __init__(self) -> None:
        self.finished = False
        self._segments = 0

    async def news(
        self, events: AsyncGenerator[PipelineEvent | StageResult[M], None]
    ) -> AsyncGenerator[PipelineEvent | StageResult[M], None]:
        """What one try tells, but for the segments that an earlier one told."""
        segments = 0
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Segment):
                    segments += 1
                    if segments <= self._segments:
                        continue
                    self._segments = segments
                yield event
        self.finished = True


def _wait_for(error: CarecaError) -> float:
    """Seconds to wait: not all the same, so that those who wait do not come back at once."""
    return min(error.retry_after_seconds or WAIT_SECONDS, WAIT_SECONDS) * random.uniform(0.5, 1.0)
