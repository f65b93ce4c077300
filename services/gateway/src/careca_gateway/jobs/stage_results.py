"""What stages found in attempts that did not succeed as a whole, so that the next one repeats only what failed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Generic, TypeVar

from google.protobuf.message import Message

from careca.errors import NotFound
from careca.types import Stage
from careca_gateway.jobs.results import dispensable
from careca_gateway.pipeline.pipeline import ModelStage, StageResult
from careca_gateway.request import Deadline, PipelineEvent
from careca_gateway.storage.object_storage import ObjectStorage
from careca_gateway.storage.store import StoredAudio

FOLDER = "stages/"
"""What the keys of kept results begin with."""

O = TypeVar("O")  # noqa: E741 - options, as in the pipeline
M = TypeVar("M", bound=Message)


class StageResults:
    """The model services' messages for one job, by stage, audio and options.

    Args:
        blobs: where they are kept from one attempt to the next.
        job_id: the job.
        expected: whether an earlier attempt may have kept any; if not, none is looked for.
    """

    def __init__(self, blobs: ObjectStorage, job_id: str, *, expected: bool) -> None:
        self._blobs = blobs
        self._prefix = folder_of(job_id)
        self._expected = expected
        self._found: dict[str, Message] = {}

    async def recall(self, name: str) -> bytes | None:
        """What an earlier attempt found, ``None`` where there is nothing, or the store cannot be asked."""
        if self._expected:
            with dispensable(), suppress(NotFound):
                return await asyncio.to_thread(self._blobs.get, self._prefix + name)
        return None

    def found(self, name: str, message: Message) -> None:
        """Takes what this attempt found. It is written down only if it has to be kept."""
        self._found[name] = message

    async def keep(self) -> None:
        """Keeps for the next attempt what this one found. A store that cannot take it costs that attempt time only."""
        for name, message in self._found.items():
            with dispensable():
                await asyncio.to_thread(self._put, name, message)

    async def drop(self) -> None:
        """Forgets what earlier attempts kept. What a store that is away does not forget goes with the job."""
        if self._expected:
            with dispensable():
                await asyncio.to_thread(self._blobs.clear, self._prefix)

    def _put(self, name: str, message: Message) -> None:
        self._blobs.put(self._prefix + name, message.SerializeToString())


class ResumingStage(Generic[O, M]):
    """A ``ModelStage`` that does not repeat what an earlier attempt of the job found.

    Args:
        name: which stage it is.
        stage: does the work.
        message: the type of what it finds.
        results: those of the job.
    """

    def __init__(self, name: Stage, stage: ModelStage[O, M], message: type[M], results: StageResults) -> None:
        self._name = name
        self._stage = stage
        self._message = message
        self._results = results

    async def run(
        self, audio: StoredAudio, options: O, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | StageResult[M], None]:
        """What the stage tells, or at once what was kept."""
        asked = hashlib.sha256(repr(options).encode()).hexdigest()[:16]
        name = f"{self._name}-{audio.digest.sha256}-{asked}"
        if (kept := await self._results.recall(name)) is not None:
            yield StageResult(self._message.FromString(kept), cached=True)
            return
        running = self._stage.run(audio, options, skip_cache=skip_cache, deadline=deadline)
        async with aclosing(running) as events:
            async for event in events:
                if isinstance(event, StageResult):
                    self._results.found(name, event.message)
                yield event


def folder_of(job_id: str) -> str:
    """What the keys of a job's kept results begin with."""
    return f"{FOLDER}{job_id}/"
