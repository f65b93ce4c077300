"""The stages of one request: decode, then transcribe and diarize at the same time, then merge.

The pipeline knows its stages by what they do and not by how they are reached: their results pass through it unopened.
One model stage that fails does not take the other down; the result then says which one failed and why.

Where each channel or track of the recording is a speaker's own, a model stage works on one after the other. So a
request never takes more than one place in a model service, and cannot be refused because of its own channels.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

from careca.errors import (
    CarecaError,
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    OutOfMemory,
    Overloaded,
    PreconditionFailed,
    Unavailable,
)
from careca.telemetry import tracing
from careca.types import (
    DiarizationOptions,
    Progress,
    Stage,
    StageReport,
    StageState,
    TranscriptionOptions,
)
from careca_gateway.pipeline.event_stream import stream_events
from careca_gateway.request import AudioSelection, Completed, Deadline, DiarizationRequest, PipelineEvent, Request
from careca_gateway.storage.store import DecodedAudio, HeldRecording, StoredAudio

ANSWER_SECONDS = 5.0
"""What model stages leave of the deadline, so that one stage's result still arrives if the other takes too long.

Merging and sending take milliseconds on a quiet machine, and may take seconds where all processors are busy.
"""

PROGRESS_STEP = 0.01
"""Progress is told again when it has grown by this fraction."""

_ONE_SPEAKER = DiarizationOptions(speaker_count=1)
"""What is asked about a channel or a track that is a speaker's own."""

_REFUSALS = (InvalidRequest, Overloaded)
"""Failures of a stage that mean the whole request: it must be changed, or come back later."""

_MOST_TELLING = (InvalidRequest, OutOfMemory, PreconditionFailed, Overloaded, DeadlineExceeded, Unavailable)
"""What to tell first, where both model stages failed: what the caller or the operator can do most about."""

Emit = Callable[[PipelineEvent], None]

O_contra = TypeVar("O_contra", contravariant=True)
M_co = TypeVar("M_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)
M = TypeVar("M")
T = TypeVar("T")
D = TypeVar("D")
A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class StageResult(Generic[M_co]):
    """What a stage found, and whether it had been found before."""

    message: M_co
    cached: bool


class DecodeStage(Protocol):
    """Recordings to audio."""

    async def decode(
        self, recording: HeldRecording, sound: AudioSelection, emit: Callable[[float], None]
    ) -> StageResult[DecodedAudio]:
        """The audio of ``recording``; emits the fraction done. Raises ``InvalidRecording`` where there is none."""


class ModelStage(Protocol[O_contra, M_co]):
    """Audio to what a model finds in it."""

    def run(
        self, audio: StoredAudio, options: O_contra, *, skip_cache: bool, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | StageResult[M_co], None]:
        """Progress and finished segments, lastly ``StageResult``. Closing it stops the work. Raises ``CarecaError``."""


class MergeStage(Protocol[T, D, A, R_co]):
    """What the models found to a result, in two steps: all that does not depend on this request's course, and it."""

    async def merge(
        self, request: Request, decoded: DecodedAudio, found: Found[T, D], reports: tuple[StageReport, ...]
    ) -> StageResult[A]:
        """Everything that is known of the recording; ``reports`` are those of the stages so far."""

    def conclude(self, merged: A, reports: tuple[StageReport, ...]) -> R_co:
        """The result, with the reports of all stages."""


class StageObserver(Protocol):
    """Told what the gateway's own stages did, for metrics; model services count theirs."""

    def observe_stage(self, stage: Stage, seconds: float, *, cached: bool) -> None:
        """Counts a stage that succeeded."""

    def count_audio(self, stage: Stage, seconds: float) -> None:
        """Counts audio that a stage worked on."""


@dataclass(frozen=True, slots=True)
class Found(Generic[T, D]):
    """What the model stages found, one message for each audio; ``None`` where the stage failed."""

    transcripts: tuple[T, ...] | None
    diarizations: tuple[D, ...] | None


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[M]):
    """What became of a model stage: its messages, one for each audio, or its error."""

    report: StageReport
    messages: tuple[M, ...] | None = None
    error: CarecaError | None = None


class Pipeline(Generic[T, D, A, R]):
    """Runs requests through the stages. Any number may run at once."""

    def __init__(
        self,
        *,
        decoder: DecodeStage,
        transcriber: ModelStage[TranscriptionOptions, T],
        diarizer: ModelStage[DiarizationRequest, D],
        merger: MergeStage[T, D, A, R],
        observer: StageObserver,
    ) -> None:
        self._decoder = decoder
        self._transcriber = transcriber
        self._diarizer = diarizer
        self._merger = merger
        self._observer = observer

    async def run(
        self, request: Request, recording: HeldRecording, deadline: Deadline
    ) -> AsyncGenerator[PipelineEvent | Completed[R], None]:
        """Progress of all stages, finished segments and reports of stages that ended, lastly the result.

        Closing it stops everything.

        Raises ``InvalidRecording`` where the recording cannot be decoded, ``InvalidRequest`` and ``Overloaded`` where a
        model stage refuses, and the more telling error where both fail.
        """

        async def work(tell: Emit) -> Completed[R]:
            with tracing.span("recording"):
                return await self._run(request, recording, deadline, tell)

        async with aclosing(stream_events(work)) as events:
            async for event in events:
                yield event

    async def _run(self, request: Request, recording: HeldRecording, deadline: Deadline, tell: Emit) -> Completed[R]:
        emit = _Noticeable(tell)
        clock = _Clock(Stage.DECODE, emit)
        with tracing.span("decode") as note:
            decoded = await self._decoder.decode(
                recording, request.sound, lambda fraction: emit(Progress(Stage.DECODE, fraction))
            )
            note(cached=decoded.cached)
        reports = [clock.succeeded(cached=decoded.cached)]
        audio = decoded.message.audio
        self._count(reports[0], audio)
        found, model_reports = await self._infer(request, audio, deadline, emit)
        reports += model_reports
        clock = _Clock(Stage.MERGE, emit)
        with tracing.span("merge") as note:
            merged = await self._merger.merge(request, decoded.message, found, tuple(reports))
            note(cached=merged.cached)
        reports.append(clock.succeeded(cached=merged.cached))
        self._count(reports[-1], audio)
        return Completed(self._merger.conclude(merged.message, tuple(reports)), tuple(reports))

    def _count(self, report: StageReport, audio: Sequence[StoredAudio]) -> None:
        self._observer.observe_stage(report.stage, report.seconds, cached=report.cached)
        if not report.cached:
            self._observer.count_audio(report.stage, sum(each.duration for each in audio))

    async def _infer(
        self, request: Request, audio: Sequence[StoredAudio], deadline: Deadline, emit: Emit
    ) -> tuple[Found[T, D], tuple[StageReport, StageReport]]:
        """Runs both model stages at once. Raises where a refusal of one, or both failing, leaves no result."""
        within = deadline.with_margin(ANSWER_SECONDS)
        speakers = _ONE_SPEAKER if request.sound.separates_speakers else request.diarization
        transcribe = partial(
            self._transcriber.run, options=request.transcription, skip_cache=request.skip_cache, deadline=within
        )
        who_speaks = DiarizationRequest(speakers, request.known_speakers)
        diarize = partial(self._diarizer.run, options=who_speaks, skip_cache=request.skip_cache, deadline=within)
        try:
            async with asyncio.TaskGroup() as group:
                first = group.create_task(_outcome(Stage.TRANSCRIBE, transcribe, audio, emit))
                second = group.create_task(_outcome(Stage.DIARIZE, diarize, audio, emit))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        transcription, diarization = first.result(), second.result()
        if transcription.error and diarization.error:
            raise min(transcription.error, diarization.error, key=_rank)
        return Found(transcription.messages, diarization.messages), (transcription.report, diarization.report)


async def _outcome(
    stage: Stage,
    run: Callable[[StoredAudio], AsyncGenerator[PipelineEvent | StageResult[M], None]],
    audio: Sequence[StoredAudio],
    emit: Emit,
) -> _Outcome[M]:
    """Runs one model stage to its end: on all ``audio``, or it has failed. Raises only what means the whole request."""
    clock = _Clock(stage, emit)
    try:
        with tracing.span(stage.value) as note:
            finished = [await last(run(each), _part(emit, index, len(audio))) for index, each in enumerate(audio)]
            cached = all(each.cached for each in finished)
            note(cached=cached)
    except _REFUSALS:
        raise
    except CarecaError as error:
        return _Outcome(clock.failed(error), error=error)
    return _Outcome(clock.succeeded(cached=cached), tuple(each.message for each in finished))


def _part(emit: Emit, index: int, count: int) -> Emit:
    """Passes events on, with the progress on audio ``index`` of ``count`` as progress on all of them."""

    def emit_part(event: PipelineEvent) -> None:
        if isinstance(event, Progress):
            event = Progress(event.stage, (index + event.fraction) / count)
        emit(event)

    return emit_part


async def last(events: AsyncGenerator[PipelineEvent | StageResult[M], None], emit: Emit) -> StageResult[M]:
    """Emits ``events`` up to the last, which it returns."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, StageResult):
                return event
            emit(event)
    raise InternalError("a model service ended its answer without a result")


def _rank(error: CarecaError) -> int:
    """The place of ``error`` in the order of what to tell first."""
    return next((rank for rank, kind in enumerate(_MOST_TELLING) if isinstance(error, kind)), len(_MOST_TELLING))


class _Clock:
    """Times one stage and tells that it began and that it is done."""

    def __init__(self, stage: Stage, emit: Emit) -> None:
        self._stage = stage
        self._emit = emit
        self._started = time.monotonic()
        emit(Progress(stage, 0.0))

    def succeeded(self, *, cached: bool) -> StageReport:
        self._emit(Progress(self._stage, 1.0))
        return self._told(StageReport(self._stage, StageState.SUCCEEDED, self._seconds, cached))

    def failed(self, error: CarecaError) -> StageReport:
        return self._told(
            StageReport(
                self._stage,
                StageState.FAILED,
                self._seconds,
                error_reason=error.reason,
                error_message=error.message,
            )
        )

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _told(self, report: StageReport) -> StageReport:
        self._emit(report)
        return report


class _Noticeable:
    """Passes events on, and of progress only what has noticeably grown: it never goes back within a stage."""

    def __init__(self, tell: Emit) -> None:
        self._tell = tell
        self._told: dict[Stage, float] = {}

    def __call__(self, event: PipelineEvent) -> None:
        if isinstance(event, Progress):
            told = self._told.get(event.stage, -1.0)
            if event.fraction < told + PROGRESS_STEP and not told < event.fraction == 1.0:
                return
            self._told[event.stage] = event.fraction
        self._tell(event)
