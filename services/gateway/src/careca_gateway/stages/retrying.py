"""A model stage that waits for its service. It is for jobs for which no caller is waiting."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, TypeVar

from careca.errors import CarecaError, Overloaded, Unavailable
from careca.telemetry.logs import get_logger
from careca_gateway.pipeline.port import ModelStage, SegmentFilter, StageResult
from careca_gateway.request import Deadline, PipelineEvent
from careca_gateway.storage.held_recording import StoredAudio

WAIT_SECONDS = 1.0
"""The longest pause before a retry. A free place is soon taken by others, and a call that is refused costs little."""

_log = get_logger(__name__)

O = TypeVar("O")  # noqa: E741 - options, as in the pipeline
M = TypeVar("M")


class RetryingStage(Generic[O, M]):
    """A ``ModelStage`` that retries while its service is full or unavailable.

    Args:
        stage: the stage to run.
        patience_seconds: how long to retry before raising the service's error.
    """

    def __init__(self, stage: ModelStage[O, M], *, patience_seconds: float) -> None:
        self._stage = stage
        self._patience_seconds = patience_seconds

    async def run(
        self, audio: StoredAudio, options: O, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | StageResult[M], None]:
        """Yields the stage's events. Segments of an attempt that failed are not yielded again."""
        unseen = SegmentFilter()
        started = time.monotonic()
        while True:
            try:
                running = self._stage.run(audio, options, skip_cache=skip_cache, deadline=deadline)
                async with aclosing(unseen.new_events(running)) as events:
                    async for event in events:
                        yield event
            except (Overloaded, Unavailable) as error:
                wait = _wait_seconds(error)
                if time.monotonic() + wait > started + self._patience_seconds or not deadline.allows(wait):
                    raise
                _log.info("a stage waits for its service", reason=error.reason, error=error.message)
                await asyncio.sleep(wait)
            else:
                return


def _wait_seconds(error: CarecaError) -> float:
    """Returns how long to wait, at random, so that not all waiting jobs come back at the same time."""
    return min(error.retry_after_seconds or WAIT_SECONDS, WAIT_SECONDS) * random.uniform(0.5, 1.0)
