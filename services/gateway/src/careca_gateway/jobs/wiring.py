"""Puts the gateway's part in the work on jobs together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from careca.auth.caller import Caller
from careca.types import Stage
from careca.v1 import audio_pb2, gateway_pb2
from careca_gateway.admin import AdminService
from careca_gateway.backends import DiarizerClient, TranscriberClient
from careca_gateway.ingest.ingest import Ingest
from careca_gateway.jobs.attempt import PipelineAttempt
from careca_gateway.jobs.calls import CallRunner
from careca_gateway.jobs.metrics import JobMetrics
from careca_gateway.jobs.queue.port import Lease, Limits
from careca_gateway.jobs.queue.redis_queue import RedisJobQueue
from careca_gateway.jobs.results import JobResults
from careca_gateway.jobs.retention import JobRetention
from careca_gateway.jobs.service import JobService
from careca_gateway.jobs.specs import JobSpecs
from careca_gateway.jobs.stage_results import ResumingStage, StageResults
from careca_gateway.jobs.webhooks.addresses import CheckedResolver
from careca_gateway.jobs.webhooks.delivery import Sender
from careca_gateway.jobs.webhooks.dispatcher import WebhookDispatcher, check_webhook
from careca_gateway.jobs.webhooks.metrics import WebhookMetrics
from careca_gateway.jobs.worker import JobWorker
from careca_gateway.metrics import GatewayMetrics
from careca_gateway.pipeline.pipeline import Pipeline
from careca_gateway.settings import GatewaySettings
from careca_gateway.stages.result_builder import ResultBuilder
from careca_gateway.stages.retrying import RetryingStage
from careca_gateway.stages.speaker_recognition import DiarizeStage
from careca_gateway.storage.object_storage import ObjectStorage
from careca_gateway.storage.store import Store
from careca_gateway.transcription import Run, Work


@dataclass(frozen=True, slots=True)
class Parts:
    """What jobs share with the rest of the gateway."""

    queue: RedisJobQueue
    store: Store
    blobs: ObjectStorage
    decoder: Ingest
    transcriber: TranscriberClient
    diarizer: DiarizerClient
    assembler: ResultBuilder
    administration: AdminService
    metrics: GatewayMetrics
    direct: Run[gateway_pb2.TranscribeResponse]
    """Works on a call without a job."""
    job_ended: Callable[[], None]
    caller_of: Callable[[str], Caller]


class JobsPart:
    """Everything about jobs, from start to end. To be made in the event loop that it will run in."""

    def __init__(self, settings: GatewaySettings, parts: Parts) -> None:
        self._parts = parts
        self._drain_seconds = settings.drain_seconds
        self._drained_at: float | None = None
        patience = settings.job_patience_seconds
        self._transcriber = RetryingStage(parts.transcriber, patience_seconds=patience)
        self._diarizer = RetryingStage(parts.diarizer, patience_seconds=patience)
        queue = parts.queue
        specs, results = JobSpecs(parts.blobs), JobResults(parts.blobs)
        self._janitor = JobRetention(queue, parts.blobs, retention_seconds=settings.job_retention_seconds)
        work = PipelineAttempt(
            store=parts.store,
            blobs=parts.blobs,
            specs=specs,
            results=results,
            pipelines=self._pipeline,
            caller_of=parts.caller_of,
        )
        metrics = JobMetrics(parts.metrics.registry)
        self._worker = JobWorker(
            queue,
            work,
            slots=settings.job_slots,
            interactive_slots=settings.max_requests,
            max_attempts=settings.job_max_attempts,
            patience_seconds=patience,
            observer=metrics,
            job_ended=parts.job_ended,
        )
        metrics.watch_work(lambda: self._worker.in_flight)
        limits = Limits(settings.max_queued_jobs, settings.max_queued_jobs_per_submitter)
        self.calls = CallRunner(
            queue=queue,
            worker=self._worker,
            specs=specs,
            results=results,
            limits=limits,
            direct=parts.direct,
            stopping=self._stopping,
            observer=metrics,
        )
        self.desk = JobService(
            queue=queue,
            store=parts.store,
            specs=specs,
            results=results,
            retention=self._janitor,
            administration=parts.administration,
            limits=limits,
            check_webhook=partial(
                check_webhook,
                secret_file=settings.webhook_secret_file,
                allow_private=settings.webhook_allow_private,
            ),
        )
        sender = Sender(
            CheckedResolver(allow_private=settings.webhook_allow_private),
            allow_private=settings.webhook_allow_private,
            timeout_seconds=settings.webhook_timeout_seconds,
        )
        self._notifier = WebhookDispatcher(
            queue,
            sender,
            secret_file=settings.webhook_secret_file,
            timeout_seconds=settings.webhook_timeout_seconds,
            attempts=settings.webhook_attempts,
            observer=WebhookMetrics(parts.metrics.registry),
        )

    async def start(self) -> None:
        """Begins to work on jobs."""
        await self._janitor.start()
        await self._worker.start()
        await self._notifier.start()

    def drain(self) -> None:
        """Takes no more jobs and lets go of those who watch. Calls go on for the drain's time."""
        self._drained_at = time.monotonic()
        self._worker.drain()
        self.desk.drain()

    async def close(self) -> None:
        """Hands back what is being worked on, and ends."""
        await self._worker.close()
        await self._janitor.close()
        await self._notifier.close()

    def _stopping(self) -> bool:
        """Whether the drain's time is over: calls that have not ended by then are ended by the server."""
        return self._drained_at is not None and time.monotonic() >= self._drained_at + self._drain_seconds

    def _pipeline(self, lease: Lease, kept: StageResults) -> Work[gateway_pb2.TranscribeResponse]:
        """The pipeline of a job. Where a call waits for it, it fails as soon as a service is full or away."""
        parts = self._parts
        transcribe = parts.transcriber if lease.caller else self._transcriber
        diarize = parts.diarizer if lease.caller else self._diarizer
        transcriber = ResumingStage(Stage.TRANSCRIBE, transcribe, audio_pb2.Transcript, kept)
        diarizer = ResumingStage(Stage.DIARIZE, diarize, audio_pb2.Diarization, kept)
        return Pipeline(
            decoder=parts.decoder,
            transcriber=transcriber,
            diarizer=DiarizeStage(diarizer, store=parts.store, decoder=parts.decoder),
            merger=parts.assembler,
            observer=parts.metrics,
        )
