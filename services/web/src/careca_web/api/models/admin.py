"""The JSON for operators: caches, memory, replicas."""

from __future__ import annotations

import enum
from dataclasses import asdict
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

import careca_client
from careca import types
from careca.errors import Unavailable


class ServiceName(enum.StrEnum):
    """A model service, by what it computes."""

    TRANSCRIPTION = "transcription"
    DIARIZATION = "diarization"

    @classmethod
    def of(cls, stage: types.Stage) -> ServiceName:
        """Returns the service that computes ``stage``."""
        return _NAMES[stage]

    @property
    def stage(self) -> types.Stage:
        """The stage that the service computes."""
        return _STAGES[self]


_NAMES = {
    types.Stage.TRANSCRIBE: ServiceName.TRANSCRIPTION,
    types.Stage.DIARIZE: ServiceName.DIARIZATION,
}
_STAGES = {name: stage for stage, name in _NAMES.items()}


class Memory(BaseModel):
    """Memory of one process and its children, in bytes."""

    rss_bytes: int = Field(description="Resident set.")
    uss_bytes: int = Field(description="The part that no other process shares.")
    gpu_allocated_bytes: int = Field(description="GPU memory used by live data.")
    gpu_reserved_bytes: int = Field(description="GPU memory held, including the libraries' own caches.")

    @classmethod
    def from_value(cls, memory: types.MemoryUsage) -> Self:
        """Returns the memory as JSON."""
        return cls(**asdict(memory))


class MemoryRelease(BaseModel):
    """Memory before and after it was given back."""

    before: Memory
    after: Memory
    models_unloaded: bool

    @classmethod
    def from_value(cls, release: types.MemoryRelease) -> Self:
        """Returns the release as JSON."""
        return cls(
            before=Memory.from_value(release.before),
            after=Memory.from_value(release.after),
            models_unloaded=release.models_unloaded,
        )


class StageMemory(BaseModel):
    """The memory that one service gave back."""

    stage: str = Field(description="transcription, diarization or gateway.", examples=["diarization"])
    memory: MemoryRelease

    @classmethod
    def rows(cls, release: careca_client.SystemRelease) -> list[Self]:
        """Returns one row for each model service, and one for the gateway."""
        rows = [(str(ServiceName.of(stage)), memory) for stage, memory in release.stages]
        return [
            cls(stage=stage, memory=MemoryRelease.from_value(memory))
            for stage, memory in (*rows, ("gateway", release.gateway))
        ]


class CacheStats(BaseModel):
    """The result cache of one stage, shared by all replicas. Timestamps are seconds since 1970."""

    available: bool = Field(description="Whether Redis answered; if not, the counts are zero.")
    hit_rate: float | None = Field(description="Hits per lookup; missing before the first lookup.", examples=[0.75])
    entries: int
    size_bytes: int
    hits: int
    misses: int
    stores: int
    evictions: int = Field(description="Entries removed because there were too many.")
    expirations: int = Field(description="Entries removed because they were too old.")
    oldest_entry: float | None
    newest_entry: float | None
    max_entries: int
    ttl_seconds: float

    @classmethod
    def from_value(cls, cache: types.CacheStats) -> Self:
        """Returns the statistics as JSON."""
        return cls(
            available=cache.available,
            hit_rate=cache.hit_rate,
            entries=cache.entries,
            size_bytes=cache.size_bytes,
            hits=cache.hits,
            misses=cache.misses,
            stores=cache.stores,
            evictions=cache.evictions,
            expirations=cache.expiries,
            oldest_entry=cache.oldest_entry_unix,
            newest_entry=cache.newest_entry_unix,
            max_entries=cache.max_entries,
            ttl_seconds=cache.ttl_seconds,
        )


class StageCacheStats(CacheStats):
    """The cache of one stage, with the memory of its service."""

    memory: Memory
    models_loaded: bool

    @classmethod
    def of_stage(cls, stats: careca_client.SystemStats, stage: types.Stage) -> Self:
        """Returns the statistics of ``stage``. Raises ``Unavailable`` if its service cannot be reached."""
        service = next((each for each in stats.stages if each.stage is stage), None)
        if service is None or service.stats is None:
            reason = service.error if service else "the gateway does not know it"
            raise Unavailable(f"the {ServiceName.of(stage)} service cannot be reached: {reason}")
        return cls(
            **CacheStats.from_value(service.stats.cache).model_dump(),
            memory=Memory.from_value(service.stats.memory),
            models_loaded=service.stats.models_loaded,
        )


class Service(BaseModel):
    """What a model service or one of its replicas does now. All fields are missing if it cannot be reached."""

    error: str = Field(description="Why it cannot be reached; empty if it can.")
    cache: CacheStats | None = None
    memory: Memory | None = None
    models_loaded: bool | None = None
    model: str | None = None
    device: str | None = None
    in_flight: int | None = None
    waiting: int | None = None

    @classmethod
    def fields(cls, stats: types.ModelServiceStats | None) -> dict[str, object]:
        """Returns the fields with the statistics, if there are any."""
        if stats is None:
            return {}
        return {
            "cache": CacheStats.from_value(stats.cache),
            "memory": Memory.from_value(stats.memory),
            "models_loaded": stats.models_loaded,
            "model": stats.model,
            "device": stats.device,
            "in_flight": stats.in_flight,
            "waiting": stats.waiting,
        }


class Replica(Service):
    """One replica of a model service."""

    stage: ServiceName
    address: str = Field(description="The address under which the gateway calls it.")

    @classmethod
    def from_value(cls, stage: types.Stage, replica: careca_client.ReplicaStats) -> Self:
        """Returns the replica as JSON."""
        return cls.model_validate(
            {"stage": ServiceName.of(stage), "address": replica.address, "error": replica.error}
            | cls.fields(replica.stats)
        )


class StageService(Service):
    """The model service of one stage: the sum over its replicas."""

    stage: ServiceName
    replicas: list[Replica]

    @classmethod
    def from_value(cls, service: careca_client.StageStats) -> Self:
        """Returns the service as JSON."""
        replicas = [Replica.from_value(service.stage, replica) for replica in service.replicas]
        return cls.model_validate(
            {"stage": ServiceName.of(service.stage), "error": service.error, "replicas": replicas}
            | cls.fields(service.stats)
        )


class GatewayStats(BaseModel):
    """The gateway that answered."""

    memory: Memory
    stored_recordings: int
    stored_bytes: int = Field(description="Bytes in its store, decoded audio included.")


class SystemStats(BaseModel):
    """All services."""

    services: list[StageService]
    gateway: GatewayStats

    @classmethod
    def from_value(cls, stats: careca_client.SystemStats) -> Self:
        """Returns the statistics as JSON."""
        return cls(
            services=[StageService.from_value(service) for service in stats.stages],
            gateway=GatewayStats(
                memory=Memory.from_value(stats.gateway_memory),
                stored_recordings=stats.stored_recordings,
                stored_bytes=stats.stored_bytes,
            ),
        )


class Replicas(BaseModel):
    """All replicas of all model services."""

    replicas: list[Replica]

    @classmethod
    def from_value(cls, stats: careca_client.SystemStats) -> Self:
        """Returns the replicas as JSON."""
        return cls(
            replicas=[
                Replica.from_value(service.stage, replica) for service in stats.stages for replica in service.replicas
            ]
        )


class CacheClearRequest(BaseModel):
    """Which entries to remove."""

    model_config = ConfigDict(extra="forbid")

    expired_only: bool = Field(
        default=False,
        description="Whether to remove only entries that are too old, entries of other models, and orphaned locks. "
        "Otherwise all entries are removed, and the models are unloaded.",
        examples=[True],
    )


class CacheClearance(BaseModel):
    """What was removed from the cache of one stage, and the memory that its service gave back."""

    removed_entries: int
    removed_bytes: int
    removed_locks: int
    memory: MemoryRelease

    @classmethod
    def from_value(cls, clearance: careca_client.StageClearance) -> Self:
        """Returns what was removed as JSON."""
        return cls(**asdict(clearance.cleared), memory=MemoryRelease.from_value(clearance.memory))


class MemoryReleaseRequest(BaseModel):
    """Which services give back memory."""

    model_config = ConfigDict(extra="forbid")

    stages: list[ServiceName] = Field(
        default_factory=list,
        max_length=len(ServiceName),
        description="Left out or empty: all.",
        examples=[["diarization"]],
    )


class SystemMemory(BaseModel):
    """The memory that all services gave back."""

    services: list[StageMemory]
    gateway: MemoryRelease

    @classmethod
    def from_value(cls, release: careca_client.SystemRelease) -> Self:
        """Returns the release as JSON."""
        *services, gateway = StageMemory.rows(release)
        return cls(services=services, gateway=gateway.memory)
