"""Statistics, caches and memory: tables for people, plain documents for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from rich.filesize import decimal
from rich.table import Table

from careca.types import CacheStats, MemoryRelease, MemoryUsage, ModelServiceStats
from careca_client.admin import ReplicaStats, StageClearance, StageStats, SystemRelease, SystemStats
from careca_client.cli.output.tables import NONE, create_table, format_unix


def stats_table(stats: SystemStats) -> Table:
    """Returns one row for each figure and one column for each service."""
    columns = {entry.stage.value: _stage_cells(entry) for entry in stats.stages} | {"gateway": _gateway_cells(stats)}
    table = create_table("", *columns)
    for label in dict.fromkeys(label for cells in columns.values() for label in cells):
        table.add_row(label, *(cells.get(label, NONE) for cells in columns.values()))
    return table


def replicas_table(stages: Iterable[StageStats]) -> Table:
    """Returns one row for each replica of ``stages``."""
    table = create_table("service", "replica", "state", "model", "device", "in flight", "waiting", "RAM", "GPU held")
    for stage in stages:
        for replica in stage.replicas:
            table.add_row(stage.stage.value, replica.address, *_replica_cells(replica))
    return table


def stats_document(stats: SystemStats) -> dict[str, Any]:
    """Returns the statistics as plain values, with the hit rates."""
    document = dataclasses.asdict(stats)
    for entry, plain in zip(stats.stages, document["stages"], strict=True):
        _add_hit_rate(entry.stats, plain)
        for replica, plain_replica in zip(entry.replicas, plain["replicas"], strict=True):
            _add_hit_rate(replica.stats, plain_replica)
    return document


def clearance_table(clearances: Iterable[StageClearance]) -> Table:
    """Returns one row for each cache with what was removed."""
    table = create_table("cache", "entries", "stored", "locks", "memory back", "models")
    for entry in clearances:
        table.add_row(
            entry.stage.value,
            str(entry.cleared.removed_entries),
            decimal(entry.cleared.removed_bytes),
            str(entry.cleared.removed_locks),
            _released(entry.memory),
            "unloaded" if entry.memory.models_unloaded else "kept",
        )
    return table


def release_table(release: SystemRelease) -> Table:
    """Returns one row for each service with its memory before and after."""
    table = create_table("service", "RAM before", "RAM after", "GPU before", "GPU after", "models")
    for name, memory in [*((stage.value, memory) for stage, memory in release.stages), ("gateway", release.gateway)]:
        table.add_row(
            name,
            decimal(memory.before.rss_bytes),
            decimal(memory.after.rss_bytes),
            decimal(memory.before.gpu_reserved_bytes),
            decimal(memory.after.gpu_reserved_bytes),
            "unloaded" if memory.models_unloaded else NONE,
        )
    return table


def release_document(release: SystemRelease) -> dict[str, Any]:
    """Returns the released memory as plain values."""
    return {
        "stages": [{"stage": stage.value, "memory": dataclasses.asdict(memory)} for stage, memory in release.stages],
        "gateway": dataclasses.asdict(release.gateway),
    }


def _add_hit_rate(stats: ModelServiceStats | None, plain: dict[str, Any]) -> None:
    if stats is not None:
        plain["stats"]["cache"]["hit_rate"] = stats.cache.hit_rate


def _replica_cells(replica: ReplicaStats) -> list[str]:
    if replica.stats is None:
        return [f"not reachable: {replica.error}"]
    memory = replica.stats.memory
    return [*_work_cells(replica.stats).values(), decimal(memory.rss_bytes), decimal(memory.gpu_reserved_bytes)]


def _stage_cells(entry: StageStats) -> dict[str, str]:
    if entry.stats is None:
        return {"state": f"not reachable: {entry.error}"}
    return {**_work_cells(entry.stats), **_cache_cells(entry.stats.cache), **_memory_cells(entry.stats.memory)}


def _gateway_cells(stats: SystemStats) -> dict[str, str]:
    return {
        **_memory_cells(stats.gateway_memory),
        "stored recordings": str(stats.stored_recordings),
        "store": decimal(stats.stored_bytes),
    }


def _work_cells(stats: ModelServiceStats) -> dict[str, str]:
    return {
        "state": "models loaded" if stats.models_loaded else "models not loaded",
        "model": stats.model,
        "device": stats.device,
        "in flight": str(stats.in_flight),
        "waiting": str(stats.waiting),
    }


def _cache_cells(cache: CacheStats) -> dict[str, str]:
    if not cache.available:
        return {"cache": "Redis does not answer"}
    rate = NONE if cache.hit_rate is None else f"{cache.hit_rate:.0%}"
    return {
        "cache": f"{cache.entries} of {cache.max_entries} entries",
        "cache size": decimal(cache.size_bytes),
        "hits": f"{cache.hits} ({rate})",
        "misses": str(cache.misses),
        "stored": str(cache.stores),
        "evicted": str(cache.evictions),
        "expired": str(cache.expiries),
        "oldest entry": format_unix(cache.oldest_entry_unix),
        "newest entry": format_unix(cache.newest_entry_unix),
        "time to live": f"{cache.ttl_seconds:.0f} s",
    }


def _memory_cells(memory: MemoryUsage) -> dict[str, str]:
    cells = {"RAM": decimal(memory.rss_bytes), "RAM of its own": decimal(memory.uss_bytes)}
    if memory.gpu_reserved_bytes:
        cells |= {"GPU in use": decimal(memory.gpu_allocated_bytes), "GPU held": decimal(memory.gpu_reserved_bytes)}
    return cells


def _released(memory: MemoryRelease) -> str:
    return decimal(max(0, memory.before.rss_bytes - memory.after.rss_bytes))
