"""Puts a model service together: one engine behind its cache, its worker and its memory keeper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import grpc.aio
from google.protobuf.message import Message

from careca.cache.redis_cache import create_cache
from careca.inference.audio import Audio
from careca.inference.cached_stage import CachedStage, Emit
from careca.inference.engine import CancelToken, Engine
from careca.inference.worker import Worker
from careca.launch import Wiring
from careca.resources.memory import MemoryKeeper
from careca.settings import ModelServiceSettings
from careca.telemetry.metrics import ModelServiceMetrics
from careca.types import Stage

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

O = TypeVar("O", bound="DataclassInstance")  # noqa: E741 - options
R = TypeVar("R")
M = TypeVar("M", bound=Message)


def wire_model_service(
    *,
    name: str,
    stage: Stage,
    schema: int,
    engine: Engine,
    infer: Callable[[Audio, O, CancelToken, Emit], R],
    encode: Callable[[R], M],
    message_type: type[M],
    settings: ModelServiceSettings,
    add_service: Callable[[CachedStage[O, R, M], grpc.aio.Server], str],
) -> Wiring:
    """The service that ``settings`` ask for. To be called in the event loop that it will run in.

    Args:
        name: the service's name, which is the namespace of its cache.
        stage: what it does.
        schema: version of the layout of cached results.
        engine: the model.
        infer: the engine's method of inference.
        encode: the message of a result.
        message_type: that message's class.
        settings: limits, cache and device.
        add_service: adds the servicer of the stage to the server and returns the full name of the gRPC service.
    """
    worker = Worker(max_waiting=settings.max_waiting)
    metrics = ModelServiceMetrics(stage, engine, worker)
    metrics.cache_limited(settings.cache_max_entries if settings.redis_url else 0)
    cache = create_cache(
        settings.redis_url,
        namespace=name,
        model=engine.model,
        schema=schema,
        ttl_seconds=settings.cache_ttl_seconds,
        max_entries=settings.cache_max_entries,
        timeout_seconds=settings.cache_timeout_seconds,
        observer=metrics,
    )
    cached_stage = CachedStage(
        stage=stage,
        schema=schema,
        engine=engine,
        infer=infer,
        encode=encode,
        message_type=message_type,
        cache=cache,
        worker=worker,
        memory=MemoryKeeper(engine, metrics),
        metrics=metrics,
        settings=settings,
    )

    def add_services(server: grpc.aio.Server) -> Sequence[str]:
        return (add_service(cached_stage, server),)

    return Wiring(add_services, metrics, warm_up=cached_stage.start, close=cached_stage.close)
