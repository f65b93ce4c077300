"""Runs one request from start to end: admission, receiving the recording, the pipeline, the log line, clean-up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar

from careca.errors import CarecaError, Overloaded
from careca.telemetry.logs import get_logger
from careca.types import Digest, Progress, Segment, StageReport
from careca_gateway.ingest.ingest import Ingest
from careca_gateway.pipeline.port import RunPipeline
from careca_gateway.request import AudioSelection, Completed, Deadline, RecordingKnown, RecordingNeeded, Request
from careca_gateway.storage.held_recording import HeldRecording
from careca_gateway.storage.store import Store

_RETRY_SECONDS = 5.0

_log = get_logger(__name__)

R = TypeVar("R")


class TranscriptionService:
    """Receives recordings and runs requests, a bounded number at a time.

    Args:
        store: the recordings.
        ingest: receives recordings.
        max_requests: the maximum number of requests at the same time.
        request_ended: is called after each request, so that memory can be released.
    """

    def __init__(self, *, store: Store, ingest: Ingest, max_requests: int, request_ended: Callable[[], None]) -> None:
        self._store = store
        self._ingest = ingest
        self._max_requests = max_requests
        self._request_ended = request_ended
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """The number of requests that are running."""
        return self._in_flight

    async def transcribe(
        self, request: Request, chunks: AsyncIterator[bytes], deadline: Deadline, run: RunPipeline[R]
    ) -> AsyncGenerator[RecordingNeeded | RecordingKnown | Progress | Segment | Completed[R], None]:
        """Yields whether the recording is needed, then the events of ``run``, and lastly ``Completed``.

        ``chunks`` are read only after ``RecordingNeeded``. Closing the generator stops the request.
        """
        with self._admitted(), _RequestLog(request) as log, self._store.hold(request.recording) as recording:
            async with aclosing(self._receive(recording, request.selection, chunks)) as answers:
                async for answer in answers:
                    yield answer
            async with aclosing(run(request, recording, deadline)) as events:
                async for event in events:
                    if isinstance(event, StageReport):  # the result contains all reports
                        continue
                    if isinstance(event, Completed):
                        log.reports = event.reports
                    yield event

    async def upload(
        self, digest: Digest, chunks: AsyncIterator[bytes]
    ) -> AsyncGenerator[RecordingNeeded | RecordingKnown, None]:
        """Yields whether the recording is needed, and ends when the store has it. ``chunks`` as in ``transcribe``."""
        with self._admitted(), self._store.hold(digest) as recording:
            async with aclosing(self._receive(recording, AudioSelection(), chunks)) as answers:
                async for answer in answers:
                    yield answer

    async def _receive(
        self, recording: HeldRecording, selection: AudioSelection, chunks: AsyncIterator[bytes]
    ) -> AsyncGenerator[RecordingNeeded | RecordingKnown, None]:
        if await asyncio.to_thread(recording.known, selection):
            yield RecordingKnown()
            return
        with recording.upload() as upload:
            yield RecordingNeeded()
            await self._ingest.receive(upload, chunks)

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._in_flight >= self._max_requests:
            raise Overloaded(
                f"the gateway already runs {self._in_flight} requests, which is its maximum: try again later",
                retry_after_seconds=_RETRY_SECONDS,
            )
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._request_ended()


class _RequestLog:
    """Logs one line when the request ends, with success or not."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._started = time.monotonic()
        self.reports: tuple[StageReport, ...] = ()
        """The reports of the stages. Empty until there is a result."""

    def __enter__(self) -> _RequestLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        _log.info(
            "request finished",
            outcome=self._outcome(error),
            recording=self._request.recording.sha256,
            recording_bytes=self._request.recording.size_bytes,
            name=self._request.display_name,
            sound=str(self._request.selection),
            seconds=round(time.monotonic() - self._started, 3),
            stages={report.stage.value: _summary(report) for report in self.reports},
        )

    def _outcome(self, error: BaseException | None) -> str:
        if self.reports:
            return "SUCCEEDED"
        if isinstance(error, CarecaError):
            return error.reason
        return "INTERNAL" if isinstance(error, Exception) else "CANCELLED"


def _summary(report: StageReport) -> str:
    if report.error_reason:
        return f"{report.error_reason} after {report.seconds:.3f} s"
    return f"{report.seconds:.3f} s" + (", cached" if report.cached else "")
