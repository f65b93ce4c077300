"""The protocols of the pipeline's stages, and the values that pass between them.

The pipeline does not look into what the model stages find: it passes their messages on to the merge stage.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from careca.errors import InternalError
from careca.types import Segment, Stage, StageReport
from careca_gateway.request import AudioSelection, Completed, Deadline, PipelineEvent, Request
from careca_gateway.storage.held_recording import DecodedAudio, HeldRecording, StoredAudio

Emit = Callable[[PipelineEvent], None]

O_contra = TypeVar("O_contra", contravariant=True)
M_co = TypeVar("M_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
M = TypeVar("M")
T = TypeVar("T")
D = TypeVar("D")
A = TypeVar("A")
R = TypeVar("R")

RunPipeline = Callable[[Request, HeldRecording, Deadline], AsyncGenerator[PipelineEvent | Completed[R], None]]
"""Runs a request on its recording. Yields events, and lastly ``Completed``. Closing the generator stops everything."""


@dataclass(frozen=True, slots=True)
class StageResult(Generic[M_co]):
    """What a stage found, and whether it came from a cache."""

    message: M_co
    cached: bool


@dataclass(frozen=True, slots=True)
class Found(Generic[T, D]):
    """What the model stages found, one message for each audio. ``None`` if the stage failed."""

    transcripts: tuple[T, ...] | None
    diarizations: tuple[D, ...] | None


class DecodeStage(Protocol):
    """Decodes recordings to audio."""

    async def decode(
        self, recording: HeldRecording, selection: AudioSelection, emit: Callable[[float], None]
    ) -> StageResult[DecodedAudio]:
        """Returns the audio. Emits the fraction that is done. Raises ``InvalidRecording`` if there is no audio."""


class ModelStage(Protocol[O_contra, M_co]):
    """Runs a model on audio."""

    def run(
        self, audio: StoredAudio, options: O_contra, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | StageResult[M_co], None]:
        """Yields progress and finished segments, and lastly the result. Closing the generator stops the model.

        Raises ``CarecaError``.
        """


class MergeStage(Protocol[T, D, A, R_co]):
    """Merges what the models found to a result, in two steps. The second step adds the reports of all stages."""

    async def merge(
        self, request: Request, decoded: DecodedAudio, found: Found[T, D], reports: tuple[StageReport, ...]
    ) -> StageResult[A]:
        """Returns everything but the final reports. ``reports`` are those of the stages before this one."""

    def add_reports(self, merged: A, reports: tuple[StageReport, ...]) -> R_co:
        """Returns the result with the reports of all stages."""


class StageObserver(Protocol):
    """Counts the gateway's own stages for metrics. The model services count theirs."""

    def observe_stage(self, stage: Stage, seconds: float, *, cached: bool) -> None:
        """Counts a stage that succeeded."""

    def count_audio(self, stage: Stage, seconds: float) -> None:
        """Counts audio that a stage processed."""


class SegmentFilter:
    """Removes segments that an earlier attempt already yielded. Every attempt finds the same segments in order."""

    def __init__(self) -> None:
        self._seen = 0

    async def new_events(
        self, events: AsyncGenerator[PipelineEvent | StageResult[M], None]
    ) -> AsyncGenerator[PipelineEvent | StageResult[M], None]:
        """Yields the events of one attempt without the segments of earlier attempts."""
        segments = 0
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Segment):
                    segments += 1
                    if segments <= self._seen:
                        continue
                    self._seen = segments
                yield event


async def stage_result(events: AsyncGenerator[PipelineEvent | StageResult[M], None], emit: Emit) -> StageResult[M]:
    """Emits the events of a stage and returns its result."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, StageResult):
                return event
            emit(event)
    raise InternalError("a model service ended its answer without a result")


async def completed(events: AsyncGenerator[PipelineEvent | Completed[R], None], emit: Emit) -> Completed[R]:
    """Emits the events of a pipeline and returns its result."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Completed):
                return event
            emit(event)
    raise InternalError("the pipeline ended without a result")
