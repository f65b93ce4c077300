"""Puts the diarizer together: the one place where its parts are made and meet."""

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
from careca.v1 import audio_pb2, diarizer_pb2, diarizer_pb2_grpc
from careca.worker import Worker
from careca_diarizer.engine import DiarizerEngine
from careca_diarizer.service import DiarizerServicer
from careca_diarizer.settings import DiarizerSettings

SCHEMA = 1
"""Version of the layout of cached diarizations: raised when ``audio.proto``'s Diarization changes its meaning."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """What ``careca.server`` needs to run the diarizer."""

    add_services: Callable[[grpc.aio.Server], Sequence[str]]
    metrics: ModelServiceMetrics
    warm_up: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]


def wire(settings: DiarizerSettings, engine: DiarizerEngine) -> Wiring:
    """The diarizer that ``settings`` ask for. To be called in the event loop that it will run in."""
    worker = Worker(slots=settings.slots, max_waiting=settings.max_waiting)
    metrics = ModelServiceMetrics(Stage.DIARIZE, engine, worker)
    cache = create_cache(
        settings.redis_url,
        namespace="diarizer",
        model=engine.model,
        schema=SCHEMA,
        ttl_seconds=settings.cache_ttl_seconds,
        max_entries=settings.cache_max_entries,
        timeout_seconds=settings.cache_timeout_seconds,
        observer=metrics,
    )
    stage = CachedStage(
        stage=Stage.DIARIZE,
        schema=SCHEMA,
        engine=engine,
        infer=engine.diarize,
        encode=codec.encode_diarization,
        message_type=audio_pb2.Diarization,
        cache=cache,
        worker=worker,
        memory=MemoryKeeper(engine, metrics),
        metrics=metrics,
        settings=settings,
    )

    def add_services(server: grpc.aio.Server) -> Sequence[str]:
        diarizer_pb2_grpc.add_DiarizerServiceServicer_to_server(DiarizerServicer(stage), server)
        return (diarizer_pb2.DESCRIPTOR.services_by_name["DiarizerService"].full_name,)

    return Wiring(add_services, metrics, warm_up=stage.start, close=stage.close)
