"""Creates a model service: one engine with its cache, its worker and its memory cleaner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import grpc.aio
from google.protobuf.message import Message

from careca.cache.port import NoCache, ResultCache
from careca.cache.redis_cache import RedisResultCache
from careca.inference.cached_stage import CachedStage
from careca.inference.metrics import ModelServiceMetrics
from careca.inference.shared_engine import SharedEngine
from careca.inference.worker import Worker
from careca.resources.memory import MemoryCleaner
from careca.rpc.server import Service
from careca.settings import ModelServiceSettings
from careca.types import Stage

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

O = TypeVar("O", bound="DataclassInstance")  # noqa: E741 - options
R = TypeVar("R")
M = TypeVar("M", bound=Message)


def create_model_service(
    *,
    name: str,
    stage: Stage,
    schema: int,
    engine: SharedEngine[Any, Any],
    encode: Callable[[R], M],
    message_type: type[M],
    settings: ModelServiceSettings,
    add_service: Callable[[CachedStage[O, R, M], grpc.aio.Server], str],
) -> Service:
    """Returns the service for ``settings``. Call it in the event loop of the service.

    Args:
        name: the name of the service, and the namespace of its cache.
        stage: the stage that it runs.
        schema: version of the layout of cached results.
        engine: the model.
        encode: converts a result to its message.
        message_type: the class of that message.
        settings: limits, cache and device.
        add_service: adds the servicer of the stage to the server and returns the full name of the gRPC service.
    """
    worker = Worker(max_waiting=settings.max_waiting, max_windows=settings.max_live_windows)
    metrics = ModelServiceMetrics(stage, engine, worker)
    metrics.cache_limited(settings.cache_max_entries if settings.redis_url else 0)
    cache: ResultCache = NoCache(metrics)
    if settings.redis_url:
        cache = RedisResultCache(
            settings.redis_url,
            namespace=name,
            model=engine.model,
            schema=schema,
            ttl_seconds=settings.cache_ttl_seconds,
            max_entries=settings.cache_max_entries,
            timeout_seconds=settings.cache_timeout_seconds,
            observer=metrics,
        )
    cached_stage: CachedStage[O, R, M] = CachedStage(
        stage=stage,
        schema=schema,
        engine=engine,
        encode=encode,
        message_type=message_type,
        cache=cache,
        worker=worker,
        memory=MemoryCleaner(engine, metrics.memory_cleaned),
        metrics=metrics,
        settings=settings,
    )

    def add_services(server: grpc.aio.Server) -> Sequence[str]:
        return (add_service(cached_stage, server),)

    return Service(add_services, metrics, warm_up=cached_stage.start, close=cached_stage.close)
