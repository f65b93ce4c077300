"""Statistics of services: cache, memory and work."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ClearScope(enum.StrEnum):
    """Which entries of a cache to clear."""

    EXPIRED = "expired"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The current state of the result cache of one stage, shared by all replicas."""

    available: bool
    """Whether Redis answered; if not, the counts are zero."""
    entries: int = 0
    size_bytes: int = 0
    hits: int = 0
    misses: int = 0
    stores: int = 0
    evictions: int = 0
    expiries: int = 0
    oldest_entry_unix: float | None = None
    newest_entry_unix: float | None = None
    max_entries: int = 0
    ttl_seconds: float = 0.0

    @property
    def hit_rate(self) -> float | None:
        """Hits per lookup; ``None`` before the first lookup."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else None


@dataclass(frozen=True, slots=True)
class CacheClearance:
    """What clearing a cache removed."""

    removed_entries: int
    removed_bytes: int
    removed_locks: int = 0


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Memory of the GPU that an engine uses, in bytes; all 0 without a GPU and before its first use."""

    allocated_bytes: int = 0
    """Used by live data of this process."""
    reserved_bytes: int = 0
    """Held by this process, including caches."""
    used_bytes: int = 0
    """Used on the GPU by all processes."""
    total_bytes: int = 0
    """Total memory of the GPU."""


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Memory of one process and its children, in bytes."""

    rss_bytes: int
    uss_bytes: int
    """0 after a quick measurement, as after each task."""
    gpu_allocated_bytes: int = 0
    gpu_reserved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MemoryRelease:
    """Memory before and after a cleanup, and whether it unloaded the models."""

    before: MemoryUsage
    after: MemoryUsage
    models_unloaded: bool = False


@dataclass(frozen=True, slots=True)
class ModelServiceStats:
    """The current state of one model service."""

    cache: CacheStats
    memory: MemoryUsage
    models_loaded: bool
    model: str
    device: str
    in_flight: int
    waiting: int
