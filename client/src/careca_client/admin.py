"""Values about the gateway and its services, and their messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from careca import codec
from careca.auth.caller import Role
from careca.types import CacheClearance, ClearScope, MemoryRelease, MemoryUsage, ModelServiceStats, Stage
from careca.v1 import admin_pb2, gateway_pb2

ADMIN_TIMEOUT_SECONDS = 60.0
"""Default limit of calls that compute nothing."""

HEALTH_TIMEOUT_SECONDS = 5.0
"""Default limit of a health check."""


@dataclass(frozen=True, slots=True)
class ReplicaStats:
    """One replica of a model service. If it cannot be reached, ``stats`` is ``None`` and ``error`` says why."""

    address: str
    """The address under which the gateway calls it: host and port."""
    stats: ModelServiceStats | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class StageStats:
    """The model service of one stage. If it cannot be reached, ``stats`` is ``None`` and ``error`` says why.

    If it has several replicas, ``stats`` is the sum over those that can be reached.
    """

    stage: Stage
    stats: ModelServiceStats | None
    error: str = ""
    replicas: tuple[ReplicaStats, ...] = ()


@dataclass(frozen=True, slots=True)
class SystemStats:
    """The state of all services behind one gateway."""

    stages: tuple[StageStats, ...]
    gateway_memory: MemoryUsage
    stored_recordings: int
    stored_bytes: int
    """Bytes in the gateway's store, including decoded audio."""


@dataclass(frozen=True, slots=True)
class StageClearance:
    """What was removed from the cache of one stage, and the memory that its service released."""

    stage: Stage
    cleared: CacheClearance
    memory: MemoryRelease


@dataclass(frozen=True, slots=True)
class SystemRelease:
    """The memory that the model services and the gateway released."""

    stages: tuple[tuple[Stage, MemoryRelease], ...]
    gateway: MemoryRelease


@dataclass(frozen=True, slots=True)
class GatewayInfo:
    """What a gateway serves, and as whom it knows the caller."""

    version: str
    requires_token: bool
    caller_name: str
    """The name in the caller's token; empty if the gateway requires no token."""
    caller_role: Role
    """The role of the caller. Without required tokens every caller is an administrator."""
    max_recording_bytes: int
    """Greatest size of a recording that the caller may send."""
    max_audio_seconds: float
    transcription_model: str
    """Ids of the transcriber's models; empty if no transcriber can be reached."""
    diarization_model: str
    """Ids of the diarizer's models; empty if no diarizer can be reached."""
    takes_jobs: bool


@dataclass(frozen=True, slots=True)
class Health:
    """The health of a server, or of one of its services, as in grpc.health.v1.

    ``status`` is ``SERVING``, ``NOT_SERVING``, ``UNKNOWN``, or ``SERVICE_UNKNOWN`` if the server has no such service.
    """

    service: str
    status: str

    @property
    def serving(self) -> bool:
        """Whether the server accepts calls."""
        return self.status == "SERVING"


def decode_info(message: gateway_pb2.GetGatewayInfoResponse) -> GatewayInfo:
    """Returns the description in ``message``."""
    is_admin = message.caller_role == gateway_pb2.CallerRole.CALLER_ROLE_ADMIN
    return GatewayInfo(
        version=message.version,
        requires_token=message.requires_token,
        caller_name=message.caller_name,
        caller_role=Role.ADMIN if is_admin else Role.USER,
        max_recording_bytes=message.max_recording_bytes,
        max_audio_seconds=codec.decode_duration(message.max_audio_duration),
        transcription_model=message.transcription_model,
        diarization_model=message.diarization_model,
        takes_jobs=message.takes_jobs,
    )


def decode_stats(message: admin_pb2.StatsResponse) -> SystemStats:
    """Returns the statistics in ``message``."""
    return SystemStats(
        stages=tuple(_decode_stage_stats(entry) for entry in message.stages),
        gateway_memory=codec.decode_memory_usage(message.gateway_memory),
        stored_recordings=message.stored_recordings,
        stored_bytes=message.stored_bytes,
    )


def encode_clear_cache(scope: ClearScope, stages: Iterable[Stage]) -> admin_pb2.ClearCacheRequest:
    """Returns the request that clears the caches of ``stages``."""
    return admin_pb2.ClearCacheRequest(
        scope=codec.encode_clear_scope(ClearScope(scope)), stages=[codec.encode_stage(Stage(stage)) for stage in stages]
    )


def decode_clearances(message: admin_pb2.ClearCacheResponse) -> tuple[StageClearance, ...]:
    """Returns what was cleared."""
    return tuple(
        StageClearance(codec.decode_stage(entry.stage), *codec.decode_clearance(entry.clearance))
        for entry in message.stages
    )


def encode_release_memory(stages: Iterable[Stage]) -> admin_pb2.ReleaseMemoryRequest:
    """Returns the request that releases the memory of ``stages``."""
    return admin_pb2.ReleaseMemoryRequest(stages=[codec.encode_stage(Stage(stage)) for stage in stages])


def decode_release(message: admin_pb2.ReleaseMemoryResponse) -> SystemRelease:
    """Returns the memory that was released."""
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
