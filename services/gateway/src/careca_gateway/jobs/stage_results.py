"""Saves what stages found in attempts that did not succeed as a whole. The next attempt repeats only what failed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Generic, TypeVar

from google.protobuf.message import Message

from careca.errors import NotFound
from careca.types import Stage
from careca_gateway.jobs.results import errors_logged, prefix_of
from careca_gateway.pipeline.port import ModelStage, StageResult
from careca_gateway.request import Deadline, PipelineEvent
from careca_gateway.storage.held_recording import StoredAudio
from careca_gateway.storage.object_storage import ObjectStorage

PREFIX = "stages/"
"""The key prefix of all stage results."""

O = TypeVar("O")  # noqa: E741 - options, as in the pipeline
M = TypeVar("M", bound=Message)


class StageResults:
    """The model services' messages for one job, by stage, audio and options.

    Args:
        storage: keeps them from one attempt to the next.
        job_id: the job.
        expected: whether an earlier attempt may have saved any. If not, the storage is not asked.
    """

    def __init__(self, storage: ObjectStorage, job_id: str, *, expected: bool) -> None:
        self._storage = storage
        self._prefix = prefix_of(job_id, PREFIX)
        self._expected = expected
        self._found: dict[str, Message] = {}

    async def load(self, name: str) -> bytes | None:
        """Returns what an earlier attempt found, or ``None`` if there is nothing or the storage is unavailable."""
        if self._expected:
            with errors_logged(), suppress(NotFound):
                return await asyncio.to_thread(self._storage.get, self._prefix + name)
        return None

    def add(self, name: str, message: Message) -> None:
        """Adds what this attempt found. It is not written before ``save``."""
        self._found[name] = message

    async def save(self) -> None:
        """Writes what this attempt found. If the storage is unavailable, the next attempt computes it again."""
        for name, message in self._found.items():
            with errors_logged():
                await asyncio.to_thread(self._put, name, message)

    async def delete(self) -> None:
        """Removes what earlier attempts saved. If the storage is unavailable, it is removed later, with the job."""
        if self._expected:
            with errors_logged():
                await asyncio.to_thread(self._storage.delete_prefix, self._prefix)

    def _put(self, name: str, message: Message) -> None:
        self._storage.put(self._prefix + name, message.SerializeToString())


class ResumingStage(Generic[O, M]):
    """A ``ModelStage`` that does not repeat what an earlier attempt of the job found.

    Args:
        name: which stage it is.
        stage: the stage to run.
        message: the type of its result.
        results: the stage results of the job.
    """

    def __init__(self, name: Stage, stage: ModelStage[O, M], message: type[M], results: StageResults) -> None:
        self._name = name
        self._stage = stage
        self._message = message
        self._results = results

    async def run(
        self, audio: StoredAudio, options: O, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | StageResult[M], None]:
        """Yields the saved result if there is one, otherwise the stage's events."""
        options_digest = hashlib.sha256(repr(options).encode()).hexdigest()[:16]
        name = f"{self._name}-{audio.digest.sha256}-{options_digest}"
        if (saved := await self._results.load(name)) is not None:
            yield StageResult(self._message.FromString(saved), cached=True)
            return
        running = self._stage.run(audio, options, skip_cache=skip_cache, deadline=deadline)
        async with aclosing(running) as events:
            async for event in events:
                if isinstance(event, StageResult):
                    self._results.add(name, event.message)
                yield event
