"""Conversion of statistics, cache clearance and memory."""

from __future__ import annotations

from careca.codec.scalars import decode_duration, decode_time, encode_duration, encode_time
from careca.types import CacheClearance, CacheStats, MemoryRelease, MemoryUsage, ModelServiceStats
from careca.v1 import admin_pb2


def encode_cache_stats(stats: CacheStats) -> admin_pb2.CacheStats:
    """Returns the message of the statistics."""
    return admin_pb2.CacheStats(
        available=stats.available,
        entries=stats.entries,
        size_bytes=stats.size_bytes,
        hits=stats.hits,
        misses=stats.misses,
        stores=stats.stores,
        evictions=stats.evictions,
        expiries=stats.expiries,
        hit_rate=stats.hit_rate,
        oldest_entry_time=encode_time(stats.oldest_entry_unix),
        newest_entry_time=encode_time(stats.newest_entry_unix),
        max_entries=stats.max_entries,
        ttl=encode_duration(stats.ttl_seconds),
    )


def decode_cache_stats(message: admin_pb2.CacheStats) -> CacheStats:
    """Returns the statistics in ``message``."""
    return CacheStats(
        available=message.available,
        entries=message.entries,
        size_bytes=message.size_bytes,
        hits=message.hits,
        misses=message.misses,
        stores=message.stores,
        evictions=message.evictions,
        expiries=message.expiries,
        oldest_entry_unix=decode_time(message.oldest_entry_time) if message.HasField("oldest_entry_time") else None,
        newest_entry_unix=decode_time(message.newest_entry_time) if message.HasField("newest_entry_time") else None,
        max_entries=message.max_entries,
        ttl_seconds=decode_duration(message.ttl),
    )


def encode_memory_usage(usage: MemoryUsage) -> admin_pb2.MemoryUsage:
    """Returns the message of the usage."""
    return admin_pb2.MemoryUsage(
        rss_bytes=usage.rss_bytes,
        uss_bytes=usage.uss_bytes,
        gpu_allocated_bytes=usage.gpu_allocated_bytes,
        gpu_reserved_bytes=usage.gpu_reserved_bytes,
    )


def decode_memory_usage(message: admin_pb2.MemoryUsage) -> MemoryUsage:
    """Returns the usage in ``message``."""
    return MemoryUsage(message.rss_bytes, message.uss_bytes, message.gpu_allocated_bytes, message.gpu_reserved_bytes)


def encode_memory_release(release: MemoryRelease) -> admin_pb2.MemoryRelease:
    """Returns the message of the release."""
    return admin_pb2.MemoryRelease(
        before=encode_memory_usage(release.before),
        after=encode_memory_usage(release.after),
        models_unloaded=release.models_unloaded,
    )


def decode_memory_release(message: admin_pb2.MemoryRelease) -> MemoryRelease:
    """Returns the release in ``message``."""
    return MemoryRelease(
        decode_memory_usage(message.before), decode_memory_usage(message.after), message.models_unloaded
    )


def encode_clearance(clearance: CacheClearance, release: MemoryRelease) -> admin_pb2.CacheClearance:
    """Returns the message of what was removed from a cache, and of the memory that was released."""
    return admin_pb2.CacheClearance(
        removed_entries=clearance.removed_entries,
        removed_bytes=clearance.removed_bytes,
        removed_locks=clearance.removed_locks,
        memory=encode_memory_release(release),
    )


def decode_clearance(message: admin_pb2.CacheClearance) -> tuple[CacheClearance, MemoryRelease]:
    """Returns what was removed from a cache, and the memory that was released."""
    clearance = CacheClearance(message.removed_entries, message.removed_bytes, message.removed_locks)
    return clearance, decode_memory_release(message.memory)


def encode_model_service_stats(stats: ModelServiceStats) -> admin_pb2.ModelServiceStats:
    """Returns the message of the statistics."""
    return admin_pb2.ModelServiceStats(
        cache=encode_cache_stats(stats.cache),
        memory=encode_memory_usage(stats.memory),
        models_loaded=stats.models_loaded,
        model=stats.model,
        device=stats.device,
        in_flight=stats.in_flight,
        waiting=stats.waiting,
    )


def decode_model_service_stats(message: admin_pb2.ModelServiceStats) -> ModelServiceStats:
    """Returns the statistics in ``message``."""
    return ModelServiceStats(
        cache=decode_cache_stats(message.cache),
        memory=decode_memory_usage(message.memory),
        models_loaded=message.models_loaded,
        model=message.model,
        device=message.device,
        in_flight=message.in_flight,
        waiting=message.waiting,
    )
