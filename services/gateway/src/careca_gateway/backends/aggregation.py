"""What the replicas of a service answer to operators, as one answer: memory and work add up, the cache is one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable

from careca.types import CacheClearance, MemoryRelease, MemoryUsage, ModelServiceStats


def aggregate_stats(replicas: Collection[ModelServiceStats]) -> ModelServiceStats:
    """The state of a service whose replicas are in these; at least one."""
    caches = [replica.cache for replica in replicas]
    return ModelServiceStats(
        cache=next((cache for cache in caches if cache.available), caches[0]),
        memory=aggregate_memory([replica.memory for replica in replicas]),
        models_loaded=any(replica.models_loaded for replica in replicas),
        model=_each_once(replica.model for replica in replicas),
        device=_each_once(replica.device for replica in replicas),
        in_flight=sum(replica.in_flight for replica in replicas),
        waiting=sum(replica.waiting for replica in replicas),
    )


def aggregate_clearances(
    replicas: Collection[tuple[CacheClearance, MemoryRelease]],
) -> tuple[CacheClearance, MemoryRelease]:
    """What was cleared, and the memory that came back. What one has removed from a shared cache no other one counts."""
    cleared = [clearance for clearance, _ in replicas]
    together = CacheClearance(
        removed_entries=sum(clearance.removed_entries for clearance in cleared),
        removed_bytes=sum(clearance.removed_bytes for clearance in cleared),
        removed_locks=sum(clearance.removed_locks for clearance in cleared),
    )
    return together, aggregate_releases([release for _, release in replicas])


def aggregate_releases(replicas: Collection[MemoryRelease]) -> MemoryRelease:
    """The memory of all before and after; models are unloaded where all have unloaded theirs."""
    return MemoryRelease(
        before=aggregate_memory([replica.before for replica in replicas]),
        after=aggregate_memory([replica.after for replica in replicas]),
        models_unloaded=all(replica.models_unloaded for replica in replicas),
    )


def aggregate_memory(usages: Collection[MemoryUsage]) -> MemoryUsage:
    """What all hold."""
    return MemoryUsage(*map(sum, zip(*map(dataclasses.astuple, usages), strict=True)))


def _each_once(texts: Iterable[str]) -> str:
    """The different ones, in the order they come: one where all are the same, as they are but while they change."""
    return ", ".join(dict.fromkeys(texts))
