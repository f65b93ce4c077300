"""Runs the stages of one request: decode, then transcribe and diarize at the same time, then merge.

If one model stage fails, the other one goes on, and the result says which stage failed and why.

If each channel or track of the recording has its own speaker, a model stage processes one after the other. So a request
never takes more than one place in a model service, and its own channels cannot fill the service's queue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from careca.errors import (
    CarecaError,
    DeadlineExceeded,
    InvalidRequest,
    OutOfMemory,
    Overloaded,
    PreconditionFailed,
    Unavailable,
)
from careca.telemetry import tracing
from careca.types import Progress, Stage, StageReport, StageState, TranscriptionOptions
from careca_gateway.pipeline.event_stream import stream_events
from careca_gateway.pipeline.port import (
    DecodeStage,
    Emit,
    Found,
    MergeStage,
    ModelStage,
    StageObserver,
    StageResult,
    stage_result,
)
from careca_gateway.request import ONE_SPEAKER, Completed, Deadline, DiarizationRequest, PipelineEvent, Request
from careca_gateway.storage.held_recording import HeldRecording, StoredAudio

ANSWER_SECONDS = 5.0
"""The model stages end this long before the deadline, so that one stage's result arrives if the other is too slow.

Merging and sending take milliseconds on an idle machine, and may take seconds if all processors are busy.
"""

PROGRESS_STEP = 0.01
"""Progress is emitted again when it has grown by this fraction."""

_REFUSALS = (InvalidRequest, Overloaded)
"""Errors of one stage that fail the whole request: the caller must change it, or retry later."""

_ERROR_PRIORITY = (InvalidRequest, OutOfMemory, PreconditionFailed, Overloaded, DeadlineExceeded, Unavailable)
"""Which error to raise if both model stages failed: the one that callers or operators can do most about comes first."""

M = TypeVar("M")
T = TypeVar("T")
D = TypeVar("D")
A = TypeVar("A")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Outcome(Generic[M]):
    """How a model stage ended: its messages, one for each audio, or its error."""

    report: StageReport
    messages: tuple[M, ...] | None = None
    error: CarecaError | None = None


class Pipeline(Generic[T, D, A, R]):
    """Runs requests through the stages, any number at the same time."""

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
        """Yields progress of all stages, finished segments and reports of stages, and lastly the result.

        Closing the generator stops everything.

        Raises ``InvalidRecording`` if the recording cannot be decoded, and ``InvalidRequest`` or ``Overloaded`` if a
        model stage refuses the request. If both model stages fail, raises the more important error.
        """

        async def work(emit: Emit) -> Completed[R]:
            with tracing.span("recording"):
                return await self._run(request, recording, deadline, emit)

        async with aclosing(stream_events(work)) as events:
            async for event in events:
                yield event

    async def _run(self, request: Request, recording: HeldRecording, deadline: Deadline, emit: Emit) -> Completed[R]:
        emit = _ProgressFilter(emit)
        timer = _StageTimer(Stage.DECODE, emit)
        with tracing.span("decode") as note:
            decoded = await self._decoder.decode(
                recording, request.selection, lambda fraction: emit(Progress(Stage.DECODE, fraction))
            )
            note(cached=decoded.cached)
        reports = [timer.succeeded(cached=decoded.cached)]
        audio = decoded.message.audio
        self._count(reports[0], audio)
        found, model_reports = await self._run_models(request, audio, deadline, emit)
        reports += model_reports
        timer = _StageTimer(Stage.MERGE, emit)
        with tracing.span("merge") as note:
            merged = await self._merger.merge(request, decoded.message, found, tuple(reports))
            note(cached=merged.cached)
        reports.append(timer.succeeded(cached=merged.cached))
        self._count(reports[-1], audio)
        return Completed(self._merger.add_reports(merged.message, tuple(reports)), tuple(reports))

    def _count(self, report: StageReport, audio: Sequence[StoredAudio]) -> None:
        self._observer.observe_stage(report.stage, report.seconds, cached=report.cached)
        if not report.cached:
            self._observer.count_audio(report.stage, sum(each.duration for each in audio))

    async def _run_models(
        self, request: Request, audio: Sequence[StoredAudio], deadline: Deadline, emit: Emit
    ) -> tuple[Found[T, D], tuple[StageReport, StageReport]]:
        """Runs both model stages at the same time. Raises if one refuses the request, or if both fail."""
        within = deadline.with_margin(ANSWER_SECONDS)
        options = ONE_SPEAKER if request.selection.separates_speakers else request.diarization
        transcribe = partial(
            self._transcriber.run, options=request.transcription, skip_cache=request.skip_cache, deadline=within
        )
        diarization_request = DiarizationRequest(options, request.known_speakers)
        diarize = partial(
            self._diarizer.run, options=diarization_request, skip_cache=request.skip_cache, deadline=within
        )
        try:
            async with asyncio.TaskGroup() as group:
                first = group.create_task(_run_stage(Stage.TRANSCRIBE, transcribe, audio, emit))
                second = group.create_task(_run_stage(Stage.DIARIZE, diarize, audio, emit))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        transcription, diarization = first.result(), second.result()
        if transcription.error and diarization.error:
            raise min(transcription.error, diarization.error, key=_priority)
        return Found(transcription.messages, diarization.messages), (transcription.report, diarization.report)


async def _run_stage(
    stage: Stage,
    run: Callable[[StoredAudio], AsyncGenerator[PipelineEvent | StageResult[M], None]],
    audio: Sequence[StoredAudio],
    emit: Emit,
) -> _Outcome[M]:
    """Runs a model stage on all ``audio``. Raises only errors that fail the whole request."""
    timer = _StageTimer(stage, emit)
    try:
        with tracing.span(stage.value) as note:
            results = [
                await stage_result(run(each), _scaled(emit, index, len(audio))) for index, each in enumerate(audio)
            ]
            cached = all(each.cached for each in results)
            note(cached=cached)
    except _REFUSALS:
        raise
    except CarecaError as error:
        return _Outcome(timer.failed(error), error=error)
    return _Outcome(timer.succeeded(cached=cached), tuple(each.message for each in results))


def _scaled(emit: Emit, index: int, count: int) -> Emit:
    """Scales the progress on audio ``index`` of ``count`` to the progress on all of them. Passes other events on."""

    def emit_scaled(event: PipelineEvent) -> None:
        if isinstance(event, Progress):
            event = Progress(event.stage, (index + event.fraction) / count)
        emit(event)

    return emit_scaled


def _priority(error: CarecaError) -> int:
    """Returns the position of ``error`` in ``_ERROR_PRIORITY``."""
    return next((rank for rank, kind in enumerate(_ERROR_PRIORITY) if isinstance(error, kind)), len(_ERROR_PRIORITY))


class _StageTimer:
    """Measures the time of one stage, and emits its start and its end."""

    def __init__(self, stage: Stage, emit: Emit) -> None:
        self._stage = stage
        self._emit = emit
        self._started = time.monotonic()
        emit(Progress(stage, 0.0))

    def succeeded(self, *, cached: bool) -> StageReport:
        self._emit(Progress(self._stage, 1.0))
        return self._emitted(StageReport(self._stage, StageState.SUCCEEDED, self._seconds, cached))

    def failed(self, error: CarecaError) -> StageReport:
        return self._emitted(
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

    def _emitted(self, report: StageReport) -> StageReport:
        self._emit(report)
        return report


class _ProgressFilter:
    """Drops progress that has not grown by ``PROGRESS_STEP``. The progress of a stage never decreases."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._emitted: dict[Stage, float] = {}

    def __call__(self, event: PipelineEvent) -> None:
        if isinstance(event, Progress):
            emitted = self._emitted.get(event.stage, -1.0)
            if event.fraction < emitted + PROGRESS_STEP and not emitted < event.fraction == 1.0:
                return
            self._emitted[event.stage] = event.fraction
        self._emit(event)
