"""Aggregates the operators' answers of a service's replicas. Memory and requests are summed; the cache is shared."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable

from careca.types import CacheClearance, MemoryRelease, MemoryUsage, ModelServiceStats


def aggregate_stats(replicas: Collection[ModelServiceStats]) -> ModelServiceStats:
    """Returns the state of a service from the states of its replicas, of which there is at least one."""
    caches = [replica.cache for replica in replicas]
    return ModelServiceStats(
        cache=next((cache for cache in caches if cache.available), caches[0]),
        memory=aggregate_memory([replica.memory for replica in replicas]),
        models_loaded=any(replica.models_loaded for replica in replicas),
        model=_distinct(replica.model for replica in replicas),
        device=_distinct(replica.device for replica in replicas),
        in_flight=sum(replica.in_flight for replica in replicas),
        waiting=sum(replica.waiting for replica in replicas),
    )


def aggregate_clearances(
    replicas: Collection[tuple[CacheClearance, MemoryRelease]],
) -> tuple[CacheClearance, MemoryRelease]:
    """Returns the sums. An entry of the shared cache is counted only by the replica that removed it."""
    cleared = [clearance for clearance, _ in replicas]
    total = CacheClearance(
        removed_entries=sum(clearance.removed_entries for clearance in cleared),
        removed_bytes=sum(clearance.removed_bytes for clearance in cleared),
        removed_locks=sum(clearance.removed_locks for clearance in cleared),
    )
    return total, aggregate_releases([release for _, release in replicas])


def aggregate_releases(replicas: Collection[MemoryRelease]) -> MemoryRelease:
    """Returns the memory of all replicas before and after. Models count as unloaded if all replicas unloaded them."""
    return MemoryRelease(
        before=aggregate_memory([replica.before for replica in replicas]),
        after=aggregate_memory([replica.after for replica in replicas]),
        models_unloaded=all(replica.models_unloaded for replica in replicas),
    )


def aggregate_memory(usages: Collection[MemoryUsage]) -> MemoryUsage:
    """Returns the sums."""
    return MemoryUsage(*map(sum, zip(*map(dataclasses.astuple, usages), strict=True)))


def _distinct(texts: Iterable[str]) -> str:
    """Returns the different texts in order, which is one text unless the replicas are just being updated."""
    return ", ".join(dict.fromkeys(texts))
