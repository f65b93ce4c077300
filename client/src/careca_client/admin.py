"""What operators see of a whole Careca: values that the gateway's AdminService and health service answer with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from careca import codec
from careca.types import CacheClearance, ClearScope, MemoryRelease, MemoryUsage, ModelServiceStats, Stage
from careca.v1 import admin_pb2

ADMIN_TIMEOUT_SECONDS = 60.0
"""Limit of the calls that compute nothing."""


@dataclass(frozen=True, slots=True)
class ReplicaStats:
    """One replica of a model service. ``stats`` is ``None`` where it cannot be reached; ``error`` then says why."""

    address: str
    """Where the gateway calls it: host and port."""
    stats: ModelServiceStats | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class StageStats:
    """The model service of one stage. ``stats`` is ``None`` where it cannot be reached; ``error`` then says why.

    Where it has several replicas, ``stats`` has what those together hold and do that can be reached.
    """

    stage: Stage
    stats: ModelServiceStats | None
    error: str = ""
    replicas: tuple[ReplicaStats, ...] = ()


@dataclass(frozen=True, slots=True)
class SystemStats:
    """The live state of all services behind one gateway."""

    stages: tuple[StageStats, ...]
    gateway_memory: MemoryUsage
    stored_recordings: int
    stored_bytes: int
    """Bytes in the gateway's store, decoded audio included."""


@dataclass(frozen=True, slots=True)
class StageClearance:
    """What clearing the cache of one stage removed, and the memory that its service gave back."""

    stage: Stage
    cleared: CacheClearance
    memory: MemoryRelease


@dataclass(frozen=True, slots=True)
class SystemRelease:
    """The memory that the model services and the gateway gave back."""

    stages: tuple[tuple[Stage, MemoryRelease], ...]
    gateway: MemoryRelease


@dataclass(frozen=True, slots=True)
class Health:
    """The state of a server or of one service of it, in the words of grpc.health.v1.

    ``status`` is ``SERVING``, ``NOT_SERVING``, ``UNKNOWN``, or ``SERVICE_UNKNOWN`` for a service that the server lacks.
    """

    service: str
    status: str

    @property
    def serving(self) -> bool:
        """Whether it takes calls."""
        return self.status == "SERVING"


def decode_stats(message: admin_pb2.StatsResponse) -> SystemStats:
    """The statistics in ``message``."""
    return SystemStats(
        stages=tuple(_decode_stage_stats(entry) for entry in message.stages),
        gateway_memory=codec.decode_memory_usage(message.gateway_memory),
        stored_recordings=message.stored_recordings,
        stored_bytes=message.stored_bytes,
    )


def encode_clear_cache(scope: ClearScope, stages: Iterable[Stage]) -> admin_pb2.ClearCacheRequest:
    """The request to clear the caches of ``stages``."""
    return admin_pb2.ClearCacheRequest(
        scope=codec.encode_clear_scope(ClearScope(scope)), stages=[codec.encode_stage(Stage(stage)) for stage in stages]
    )


def decode_clearances(message: admin_pb2.ClearCacheResponse) -> tuple[StageClearance, ...]:
    """What was cleared."""
    return tuple(
        StageClearance(codec.decode_stage(entry.stage), *codec.decode_clearance(entry.clearance))
        for entry in message.stages
    )


def encode_release_memory(stages: Iterable[Stage]) -> admin_pb2.ReleaseMemoryRequest:
    """The request for the memory of ``stages``."""
    return admin_pb2.ReleaseMemoryRequest(stages=[codec.encode_stage(Stage(stage)) for stage in stages])


def decode_release(message: admin_pb2.ReleaseMemoryResponse) -> SystemRelease:
    """What came back."""
    return SystemRelease(
        stages=tuple(
            (codec.decode_stage(entry.stage), codec.decode_memory_release(entry.memory)) for entry in message.stages
        ),
        gateway=codec.decode_memory_release(message.gateway),
    )


def _decode_stage_stats(entry: admin_pb2.StatsResponse.StageStats) -> StageStats:
    replicas = tuple(ReplicaStats(each.address, _stats_of(each), each.error_message) for each in entry.replicas)
    return StageStats(codec.decode_stage(entry.stage), _stats_of(entry), entry.error_message, replicas)


def _stats_of(
    entry: admin_pb2.StatsResponse.StageStats | admin_pb2.StatsResponse.ReplicaStats,
) -> ModelServiceStats | None:
    return codec.decode_model_service_stats(entry.stats) if entry.HasField("stats") else None
