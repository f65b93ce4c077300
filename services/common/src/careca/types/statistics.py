"""The live state of a model service: its cache and its memory."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ClearScope(enum.StrEnum):
    """Which entries of a cache to clear."""

    EXPIRED = "expired"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The live state of one stage's result cache, shared by all replicas."""

    available: bool
    """Whether Redis answered; where not, the numbers below are zero."""
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
        """Hits per lookup, or ``None`` before the first lookup."""
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
    """Memory of the GPU that an engine computes on, in bytes; all 0 without one or before its use."""

    allocated_bytes: int = 0
    """Of this process: in use by live data."""
    reserved_bytes: int = 0
    """Of this process: held, caches included."""
    used_bytes: int = 0
    """Of the GPU: held by whoever."""
    total_bytes: int = 0
    """Of the GPU: all that there is."""


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """What one process and its children hold, in bytes."""

    rss_bytes: int
    uss_bytes: int
    """0 where only what is quick to know was measured, as it is after each task."""
    gpu_allocated_bytes: int = 0
    gpu_reserved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class MemoryRelease:
    """Memory before and after a cleanup; ``models_unloaded`` where the weights went too."""

    before: MemoryUsage
    after: MemoryUsage
    models_unloaded: bool = False


@dataclass(frozen=True, slots=True)
class ModelServiceStats:
    """The live state of one model service."""

    cache: CacheStats
    memory: MemoryUsage
    models_loaded: bool
    model: str
    device: str
    in_flight: int
    waiting: int
