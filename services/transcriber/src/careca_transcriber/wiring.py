"""Puts the transcriber together: the one place where its parts are made and meet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc.aio

from careca import codec
from careca.memory import MemoryKeeper
from careca.metrics import ModelServiceMetrics
from careca.redis_cache import create_cache
from careca.stage import CachedStage
from careca.types import Stage
from careca.v1 import audio_pb2, transcriber_pb2, transcriber_pb2_grpc
from careca.worker import Worker
from careca_transcriber.engine import TranscriberEngine
from careca_transcriber.service import TranscriberServicer
from careca_transcriber.settings import TranscriberSettings

SCHEMA = 1
"""Version of the layout of cached transcripts: raised when ``audio.proto``'s Transcript changes its meaning."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """What ``careca.server`` needs to run the transcriber."""

    add_services: Callable[[grpc.aio.Server], Sequence[str]]
    metrics: ModelServiceMetrics
    warm_up: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]


def wire(settings: TranscriberSettings, engine: TranscriberEngine) -> Wiring:
    """The transcriber that ``settings`` ask for. To be called in the event loop that it will run in."""
    worker = Worker(slots=settings.slots, max_waiting=settings.max_waiting)
    metrics = ModelServiceMetrics(Stage.TRANSCRIBE, engine, worker)
    cache = create_cache(
        settings.redis_url,
        namespace="transcriber",
        model=engine.model,
        schema=SCHEMA,
        ttl_seconds=settings.cache_ttl_seconds,
        max_entries=settings.cache_max_entries,
        timeout_seconds=settings.cache_timeout_seconds,
        observer=metrics,
    )
    stage = CachedStage(
        stage=Stage.TRANSCRIBE,
        schema=SCHEMA,
        engine=engine,
        infer=engine.transcribe,
        encode=codec.encode_transcript,
        message_type=audio_pb2.Transcript,
        cache=cache,
        worker=worker,
        memory=MemoryKeeper(engine, metrics),
        metrics=metrics,
        settings=settings,
    )

    def add_services(server: grpc.aio.Server) -> Sequence[str]:
        transcriber_pb2_grpc.add_TranscriberServiceServicer_to_server(TranscriberServicer(stage), server)
        return (transcriber_pb2.DESCRIPTOR.services_by_name["TranscriberService"].full_name,)

    return Wiring(add_services, metrics, warm_up=stage.start, close=stage.close)
