"""Creates and connects everything for jobs."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from careca.auth.caller import Caller
from careca.types import Scheduling, SchedulingClass, Stage
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
from careca_gateway.jobs.search import JobSearch
from careca_gateway.jobs.service import JobService
from careca_gateway.jobs.specs import JobSpecs
from careca_gateway.jobs.stage_results import ResumingStage, StageResults
from careca_gateway.jobs.texts import JobTexts
from careca_gateway.jobs.webhooks.addresses import CheckedResolver
from careca_gateway.jobs.webhooks.delivery import WebhookSender
from careca_gateway.jobs.webhooks.dispatcher import WebhookDispatcher, check_webhook
from careca_gateway.jobs.worker import JobWorker
from careca_gateway.metrics import GatewayMetrics
from careca_gateway.pipeline.pipeline import Pipeline
from careca_gateway.pipeline.port import RunPipeline
from careca_gateway.settings import GatewaySettings
from careca_gateway.stages.result_builder import ResultBuilder
from careca_gateway.stages.retrying import RetryingStage
from careca_gateway.stages.speaker_recognition import SpeakerRecognitionStage
from careca_gateway.storage.object_storage import ObjectStorage
from careca_gateway.storage.store import Store


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the gateway that jobs use too."""

    queue: RedisJobQueue
    store: Store
    storage: ObjectStorage
    decoder: Ingest
    transcriber: TranscriberClient
    diarizer: DiarizerClient
    result_builder: ResultBuilder
    admin: AdminService
    metrics: GatewayMetrics
    run_directly: Callable[[str], RunPipeline[gateway_pb2.TranscribeResponse]]
    """Returns what runs a call of a submitter without a job."""
    add_voices: Callable[[str, gateway_pb2.TranscribeRequest.Config], Awaitable[gateway_pb2.TranscribeRequest.Config]]
    """Adds the saved voices of a submitter to a config that asks for them."""
    job_ended: Callable[[], None]
    caller_of: Callable[[str], Caller]


class Jobs:
    """Everything for jobs. Must be created in the event loop that it runs in."""

    def __init__(self, settings: GatewaySettings, parts: Parts) -> None:
        self._parts = parts
        self._drain_seconds = settings.drain_seconds
        self._drained_at: float | None = None
        self._patience_seconds = settings.job_patience_seconds
        self.queue = queue = parts.queue
        specs, results = JobSpecs(parts.storage), JobResults(parts.storage)
        texts = JobTexts(queue, results, parts.storage)
        self.results, self.texts = results, texts
        self._retention = JobRetention(queue, parts.storage, retention_seconds=settings.job_retention_seconds)
        attempt = PipelineAttempt(
            store=parts.store,
            storage=parts.storage,
            specs=specs,
            results=results,
            texts=texts,
            pipelines=self._pipeline,
            caller_of=parts.caller_of,
        )
        metrics = JobMetrics(parts.metrics.registry)
        self._worker = JobWorker(
            queue,
            attempt,
            slots=settings.job_slots,
            interactive_slots=settings.max_requests,
            max_attempts=settings.job_max_attempts,
            patience_seconds=self._patience_seconds,
            metrics=metrics,
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
            run_directly=parts.run_directly,
            stopping=self._stopping,
            metrics=metrics,
        )
        self.service = JobService(
            queue=queue,
            store=parts.store,
            specs=specs,
            results=results,
            search=JobSearch(queue, texts),
            retention=self._retention,
            admin=parts.admin,
            limits=limits,
            add_voices=parts.add_voices,
            check_webhook=partial(
                check_webhook,
                secret_file=settings.webhook_secret_file,
                allow_private=settings.webhook_allow_private,
            ),
        )
        sender = WebhookSender(
            CheckedResolver(allow_private=settings.webhook_allow_private),
            allow_private=settings.webhook_allow_private,
            timeout_seconds=settings.webhook_timeout_seconds,
        )
        self._dispatcher = WebhookDispatcher(
            queue,
            sender,
            secret_file=settings.webhook_secret_file,
            timeout_seconds=settings.webhook_timeout_seconds,
            attempts=settings.webhook_attempts,
            metrics=metrics,
        )

    async def start(self) -> None:
        """Starts to work on jobs."""
        await self._retention.start()
        await self._worker.start()
        await self._dispatcher.start()

    def drain(self) -> None:
        """Takes no more jobs and ends all ``WatchJob`` calls. Other calls go on for the drain time."""
        self._drained_at = time.monotonic()
        self._worker.drain()
        self.service.drain()

    async def close(self) -> None:
        """Hands back the running jobs and stops."""
        await self._worker.close()
        await self._retention.close()
        await self._dispatcher.close()

    def _stopping(self) -> bool:
        """Returns whether the drain time is over. The server then ends the calls that are still running."""
        return self._drained_at is not None and time.monotonic() >= self._drained_at + self._drain_seconds

    def _pipeline(self, lease: Lease, stage_results: StageResults) -> RunPipeline[gateway_pb2.TranscribeResponse]:
        """Returns the pipeline of a job. If a caller waits, it does not retry when a service is full or unavailable."""
        parts, patience = self._parts, self._patience_seconds
        scheduling = Scheduling(SchedulingClass[lease.job.priority.name], lease.job.submitter)
        transcribe, diarize = parts.transcriber.scheduled(scheduling), parts.diarizer.scheduled(scheduling)
        transcriber = ResumingStage(
            Stage.TRANSCRIBE,
            transcribe if lease.caller else RetryingStage(transcribe, patience_seconds=patience),
            audio_pb2.Transcript,
            stage_results,
        )
        diarizer = ResumingStage(
            Stage.DIARIZE,
            diarize if lease.caller else RetryingStage(diarize, patience_seconds=patience),
            audio_pb2.Diarization,
            stage_results,
        )
        return Pipeline(
            decoder=parts.decoder,
            transcriber=transcriber,
            diarizer=SpeakerRecognitionStage(diarizer, store=parts.store, decoder=parts.decoder),
            merger=parts.result_builder,
            observer=parts.metrics,
        ).run
