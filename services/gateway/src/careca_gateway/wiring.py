"""Creates and connects all parts of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import grpc.aio

from careca.auth.caller import Caller, allow_anyone
from careca.auth.tokens import TokenFile
from careca.resources.memory import MemoryCleaner
from careca.rpc.server import Service
from careca.types import Scheduling, SchedulingClass, Stage
from careca.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    gateway_pb2,
    gateway_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    live_pb2,
    live_pb2_grpc,
    recordings_pb2,
    recordings_pb2_grpc,
    transcripts_pb2,
    transcripts_pb2_grpc,
    voices_pb2,
    voices_pb2_grpc,
)
from careca_gateway.admin import AdminService
from careca_gateway.api.admin import AdminServicer
from careca_gateway.api.authorization import Authorizer
from careca_gateway.api.jobs import JobServicer
from careca_gateway.api.live import LiveServicer
from careca_gateway.api.recordings import RecordingServicer
from careca_gateway.api.transcription import GatewayServicer, RunFor
from careca_gateway.api.transcripts import TranscriptServicer
from careca_gateway.api.voices import VoiceServicer
from careca_gateway.backends import DiarizerClient, Replicas, TranscriberClient
from careca_gateway.corrections.service import TranscriptService
from careca_gateway.info import InfoService
from careca_gateway.ingest.decoder import Decoder
from careca_gateway.ingest.ingest import Ingest
from careca_gateway.jobs.queue.redis_queue import RedisJobQueue
from careca_gateway.jobs.wiring import Jobs, Parts
from careca_gateway.live.journal import Journals
from careca_gateway.live.metrics import LiveMetrics
from careca_gateway.live.models import WindowModels
from careca_gateway.live.service import LiveService
from careca_gateway.metrics import GatewayMetrics
from careca_gateway.pipeline.pipeline import Pipeline
from careca_gateway.pipeline.port import RunPipeline
from careca_gateway.playback.service import RecordingService
from careca_gateway.settings import GatewaySettings
from careca_gateway.stages.result_builder import ResultBuilder
from careca_gateway.stages.speaker_recognition import SpeakerRecognitionStage
from careca_gateway.storage.object_storage import LocalObjectStorage, ObjectStorage, open_object_storage
from careca_gateway.storage.retention import StoreRetention
from careca_gateway.storage.shared_store import SharedStore
from careca_gateway.storage.store import Store
from careca_gateway.transcription import TranscriptionService
from careca_gateway.voices.wiring import Voices


def wire(settings: GatewaySettings) -> Service:
    """Creates the gateway for ``settings``. Must be called in the event loop that the gateway runs in."""
    metrics = GatewayMetrics()
    memory = MemoryCleaner(on_cleanup=metrics.memory_cleaned)
    storage = _storage(settings)
    store = Store(
        settings.store_dir,
        max_bytes=settings.store_max_bytes,
        retention_seconds=settings.store_retention_seconds,
        max_recording_bytes=settings.max_recording_bytes,
        shared=_shared_store(settings, storage) if storage else None,
    )
    tokens = TokenFile(settings.tokens_file) if settings.tokens_file else None
    transcribers, diarizers = _replicas(settings, metrics)
    transcriber, diarizer = TranscriberClient(transcribers), DiarizerClient(diarizers)
    decoder = Decoder(settings.decode_limits, slots=settings.decoders, sandbox_mode=settings.decode_confined)
    ingest = Ingest(decoder, idle_seconds=settings.upload_idle_seconds)
    result_builder = ResultBuilder(least_similarity=settings.known_speaker_similarity)
    run_for = partial(
        _pipeline_for, transcriber, diarizer, store=store, ingest=ingest, merger=result_builder, metrics=metrics
    )
    queue = _job_queue(settings)
    voices = Voices(settings)
    retention = StoreRetention(store, memory, metrics.set_store_usage, queue.recordings_in_use if queue else None)
    transcription = TranscriptionService(
        store=store, ingest=ingest, max_requests=settings.max_requests, request_ended=retention.request_ended
    )
    admin = AdminService(
        {Stage.TRANSCRIBE: transcriber, Stage.DIARIZE: diarizer},
        store=store,
        clear_results=result_builder.clear,
        memory=memory,
    )
    jobs = live = None
    if queue:
        parts = Parts(
            queue=queue,
            store=store,
            storage=storage or LocalObjectStorage(settings.store_dir / "jobs"),
            decoder=ingest,
            transcriber=transcriber,
            diarizer=diarizer,
            result_builder=result_builder,
            admin=admin,
            metrics=metrics,
            run_directly=run_for,
            add_voices=voices.add_to,
            job_ended=retention.request_ended,
            caller_of=tokens.caller_named if tokens else Caller,
        )
        jobs = Jobs(settings, parts)
        live = LiveService(
            settings,
            store=store,
            jobs=jobs.service,
            journals=Journals(
                settings.jobs_redis_url,
                timeout_seconds=settings.jobs_redis_timeout_seconds,
                storage=parts.storage,
                files=store.files,
            ),
            models=WindowModels(transcriber, diarizer),
            decoder=decoder,
            add_voices=voices.add_to,
            metrics=LiveMetrics(metrics.registry),
        )
    background = [each for each in (live, jobs) if each]
    info = InfoService(
        admin,
        requires_token=tokens is not None,
        takes_jobs=jobs is not None,
        max_recording_bytes=settings.max_recording_bytes,
        max_audio_seconds=settings.max_audio_seconds,
    )
    recordings = RecordingService(jobs.service, store, ingest, retention.request_ended) if jobs else None
    metrics.watch_work(in_flight=lambda: transcription.in_flight, waiting=lambda: decoder.waiting)

    def add_services(server: grpc.aio.Server) -> Sequence[str]:
        run: RunFor = jobs.calls.run_for if jobs else lambda submitter, _: run_for(submitter)
        gateway_pb2_grpc.add_GatewayServiceServicer_to_server(
            GatewayServicer(transcription, run, voices.add_to, info), server
        )
        admin_pb2_grpc.add_AdminServiceServicer_to_server(AdminServicer(admin), server)
        return (
            gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"].full_name,
            admin_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name,
            *_add_job_services(server, jobs, live, recordings, transcription=transcription, voices=voices),
        )

    async def warm_up() -> None:
        await asyncio.to_thread(store.open)
        metrics.watch_store(max_bytes=settings.store_max_bytes, free=store.free_bytes)
        metrics.set_sandbox_layers(await decoder.sandbox_layers())
        if queue:
            await queue.open()
        await retention.start()
        for each in reversed(background):
            await each.start()

    def drain() -> None:
        for each in background:
            each.drain()

    async def close() -> None:
        for each in background:
            await each.close()
        await retention.close()
        if queue:
            await queue.close()
        await voices.close()
        await transcribers.close()
        await diarizers.close()
        await asyncio.to_thread(store.close)

    return Service(add_services, metrics, warm_up, close, drain, Authorizer(tokens) if tokens else allow_anyone)


def _pipeline_for(
    transcriber: TranscriberClient,
    diarizer: DiarizerClient,
    submitter: str,
    *,
    store: Store,
    ingest: Ingest,
    merger: ResultBuilder,
    metrics: GatewayMetrics,
) -> RunPipeline[gateway_pb2.TranscribeResponse]:
    """Returns the pipeline for the calls of a submitter that are not jobs."""
    scheduling = Scheduling(SchedulingClass.INTERACTIVE, submitter)
    return Pipeline(
        decoder=ingest,
        transcriber=transcriber.scheduled(scheduling),
        diarizer=SpeakerRecognitionStage(diarizer.scheduled(scheduling), store=store, decoder=ingest),
        merger=merger,
        observer=metrics,
    ).run


def _replicas(settings: GatewaySettings, metrics: GatewayMetrics) -> tuple[Replicas, Replicas]:
    """Returns the replicas of the transcriber and of the diarizer."""
    tls = settings.services_tls
    if tls:
        metrics.watch_certificate("services", tls.expiry_unix)
    return Replicas(settings.transcriber_target, tls), Replicas(settings.diarizer_target, tls)


def _storage(settings: GatewaySettings) -> ObjectStorage | None:
    """Returns what gateways share, if they do."""
    if not settings.store_url:
        return None
    return open_object_storage(settings.store_url, allow_http=settings.store_allow_http)


def _job_queue(settings: GatewaySettings) -> RedisJobQueue | None:
    """Returns the jobs, if this gateway takes any."""
    if not settings.jobs_redis_url:
        return None
    return RedisJobQueue(settings.jobs_redis_url, timeout_seconds=settings.jobs_redis_timeout_seconds)


def _shared_store(settings: GatewaySettings, storage: ObjectStorage) -> SharedStore:
    return SharedStore(storage, max_bytes=settings.store_max_bytes, retention_seconds=settings.store_retention_seconds)


def _add_job_services(
    server: grpc.aio.Server,
    jobs: Jobs | None,
    live: LiveService | None,
    recordings: RecordingService | None,
    *,
    transcription: TranscriptionService,
    voices: Voices,
) -> Sequence[str]:
    """Adds the services for jobs. Without jobs, they answer that this gateway takes none."""
    jobs_pb2_grpc.add_JobServiceServicer_to_server(JobServicer(jobs.service if jobs else None, transcription), server)
    recordings_pb2_grpc.add_RecordingServiceServicer_to_server(RecordingServicer(recordings), server)
    live_pb2_grpc.add_LiveServiceServicer_to_server(LiveServicer(live), server)
    transcripts = TranscriptService(jobs.service, jobs.queue, jobs.results, jobs.texts) if jobs else None
    transcripts_pb2_grpc.add_TranscriptServiceServicer_to_server(TranscriptServicer(transcripts), server)
    voice_service = voices.service(jobs.service.speakers) if jobs else None
    voices_pb2_grpc.add_VoiceServiceServicer_to_server(VoiceServicer(voice_service), server)
    return (
        jobs_pb2.DESCRIPTOR.services_by_name["JobService"].full_name,
        live_pb2.DESCRIPTOR.services_by_name["LiveService"].full_name,
        recordings_pb2.DESCRIPTOR.services_by_name["RecordingService"].full_name,
        transcripts_pb2.DESCRIPTOR.services_by_name["TranscriptService"].full_name,
        voices_pb2.DESCRIPTOR.services_by_name["VoiceService"].full_name,
    )
