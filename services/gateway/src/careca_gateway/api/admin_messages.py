"""Converts the messages of the AdminService. Checks everything that comes from the caller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from careca import codec
from careca.errors import CarecaError, InvalidRequest
from careca.types import CacheClearance, MemoryRelease, ModelServiceStats, Stage
from careca.v1 import admin_pb2, audio_pb2
from careca_gateway.admin import SystemStats
from careca_gateway.backends.aggregation import aggregate_stats


def decode_stages(numbers: Sequence[audio_pb2.Stage.ValueType], known: Sequence[Stage]) -> tuple[Stage, ...]:
    """Returns the stages without duplicates; all ``known`` stages if the list is empty.

    Raises ``InvalidRequest`` if a stage is not ``known``.
    """
    stages = tuple(codec.decode_stage(number, f"stages[{index}]") for index, number in enumerate(numbers))
    for index, stage in enumerate(stages):
        if stage not in known:
            raise InvalidRequest(
                f"the stage {stage} has no service of its own; accepted are {' and '.join(known)}",
                field=f"stages[{index}]",
                metadata={"value": stage},
            )
    return tuple(dict.fromkeys(stages)) or tuple(known)


def encode_stats(stats: SystemStats) -> admin_pb2.StatsResponse:
    """Returns the message with the state of all services."""
    return admin_pb2.StatsResponse(
        stages=[_encode_stage_stats(stage, replicas) for stage, replicas in stats.services.items()],
        gateway_memory=codec.encode_memory_usage(stats.memory),
        stored_recordings=stats.store.recordings,
        stored_bytes=stats.store.size_bytes,
    )


def _encode_stage_stats(
    stage: Stage, replicas: Mapping[str, ModelServiceStats | CarecaError]
) -> admin_pb2.StatsResponse.StageStats:
    reached = [each for each in replicas.values() if isinstance(each, ModelServiceStats)]
    errors = dict.fromkeys(each.message for each in replicas.values() if isinstance(each, CarecaError))
    return admin_pb2.StatsResponse.StageStats(
        stage=codec.encode_stage(stage),
        stats=codec.encode_model_service_stats(aggregate_stats(reached)) if reached else None,
        error_message="" if reached else "; ".join(errors),
        replicas=[
            admin_pb2.StatsResponse.ReplicaStats(address=address, error_message=each.message)
            if isinstance(each, CarecaError)
            else admin_pb2.StatsResponse.ReplicaStats(address=address, stats=codec.encode_model_service_stats(each))
            for address, each in replicas.items()
        ],
    )


def encode_clearances(
    clearances: Iterable[tuple[Stage, tuple[CacheClearance, MemoryRelease]]],
) -> admin_pb2.ClearCacheResponse:
    """Returns the message with what was cleared."""
    return admin_pb2.ClearCacheResponse(
        stages=[
            admin_pb2.ClearCacheResponse.StageClearance(
                stage=codec.encode_stage(stage), clearance=codec.encode_clearance(clearance, release)
            )
            for stage, (clearance, release) in clearances
        ]
    )


def encode_releases(
    releases: Iterable[tuple[Stage, MemoryRelease]], gateway: MemoryRelease
) -> admin_pb2.ReleaseMemoryResponse:
    """Returns the message with the memory that was released."""
    return admin_pb2.ReleaseMemoryResponse(
        stages=[
            admin_pb2.ReleaseMemoryResponse.StageRelease(
                stage=codec.encode_stage(stage), memory=codec.encode_memory_release(release)
            )
            for stage, release in releases
        ],
        gateway=codec.encode_memory_release(gateway),
    )
