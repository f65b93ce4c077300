"""Puts the gateway's part in the work on jobs together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from careca.caller import Caller
from careca.types import Stage
from careca.v1 import audio_pb2, gateway_pb2
from careca_gateway.admin import Administration
from careca_gateway.assemble import Assembler
from careca_gateway.blobs import Blobs
from careca_gateway.clients import DiarizerClient, TranscriberClient
from careca_gateway.gateway import Work
from careca_gateway.intake import Intake
from careca_gateway.jobs.addresses import CheckedResolver
from careca_gateway.jobs.delivery import Sender
from careca_gateway.jobs.desk import JobDesk
from careca_gateway.jobs.janitor import JobJanitor
from careca_gateway.jobs.kept import KeptResults, KeptStage
from careca_gateway.jobs.metrics import JobMetrics
from careca_gateway.jobs.patience import PatientStage
from careca_gateway.jobs.queue import Limits
from careca_gateway.jobs.redis_queue import RedisJobQueue
from careca_gateway.jobs.results import JobResults
from careca_gateway.jobs.specs import JobSpecs
from careca_gateway.jobs.webhook_metrics import WebhookMetrics
from careca_gateway.jobs.webhooks import Notifier, check_webhook
from careca_gateway.jobs.work import JobWork
from careca_gateway.jobs.worker import JobWorker
from careca_gateway.metrics import GatewayMetrics
from careca_gateway.pipeline import Pipeline
from careca_gateway.recognition import DiarizeStage
from careca_gateway.settings import GatewaySettings
from careca_gateway.store import Store


@dataclass(frozen=True, slots=True)
class Parts:
    """What jobs share with the rest of the gateway."""

    queue: RedisJobQueue
    store: Store
    blobs: Blobs
    decoder: Intake
    transcriber: TranscriberClient
    diarizer: DiarizerClient
    assembler: Assembler
    administration: Administration
    metrics: GatewayMetrics
    job_ended: Callable[[], None]
    caller_of: Callable[[str], Caller]


class JobsPart:
    """Everything about jobs, from start to end. To be made in the event loop that it will run in."""

    def __init__(self, settings: GatewaySettings, parts: Parts) -> None:
        self._parts = parts
        patience = settings.job_patience_seconds
        self._transcriber = PatientStage(parts.transcriber, patience_seconds=patience)
        self._diarizer = PatientStage(parts.diarizer, patience_seconds=patience)
        queue = parts.queue
        specs, results = JobSpecs(parts.blobs), JobResults(parts.blobs)
        self._janitor = JobJanitor(queue, parts.blobs, retention_seconds=settings.job_retention_seconds)
        work = JobWork(
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
            max_attempts=settings.job_max_attempts,
            patience_seconds=patience,
            observer=metrics,
            job_ended=parts.job_ended,
        )
        metrics.watch_work(lambda: self._worker.in_flight)
        self.desk = JobDesk(
            queue=queue,
            store=parts.store,
            specs=specs,
            results=results,
            janitor=self._janitor,
            administration=parts.administration,
            limits=Limits(settings.max_queued_jobs, settings.max_queued_jobs_per_submitter),
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
        self._notifier = Notifier(
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
        """Takes no more jobs and lets go of those who watch."""
        self._worker.drain()
        self.desk.drain()

    async def close(self) -> None:
        """Hands back what is being worked on, and ends."""
        await self._worker.close()
        await self._janitor.close()
        await self._notifier.close()

    def _pipeline(self, kept: KeptResults) -> Work[gateway_pb2.TranscribeResponse]:
        parts = self._parts
        transcriber = KeptStage(Stage.TRANSCRIBE, self._transcriber, audio_pb2.Transcript, kept)
        diarizer = KeptStage(Stage.DIARIZE, self._diarizer, audio_pb2.Diarization, kept)
        return Pipeline(
            decoder=parts.decoder,
            transcriber=transcriber,
            diarizer=DiarizeStage(diarizer, store=parts.store, decoder=parts.decoder),
            merger=parts.assembler,
            observer=parts.metrics,
        )
