"""Conversion of statistics, cache clearance and memory."""

from __future__ import annotations

from careca.codec.messages import Field, MessageCodec, duration_field, field_of, time_field
from careca.types import CacheClearance, CacheStats, MemoryRelease, MemoryUsage, ModelServiceStats
from careca.v1 import admin_pb2

MEMORY_USAGE = MessageCodec(MemoryUsage, admin_pb2.MemoryUsage)
MEMORY_RELEASE = MessageCodec(
    MemoryRelease, admin_pb2.MemoryRelease, before=field_of(MEMORY_USAGE), after=field_of(MEMORY_USAGE)
)
CACHE_CLEARANCE = MessageCodec(CacheClearance, admin_pb2.CacheClearance)
CACHE_STATS = MessageCodec(
    CacheStats,
    admin_pb2.CacheStats,
    oldest_entry_unix=time_field("oldest_entry_time", optional=True),
    newest_entry_unix=time_field("newest_entry_time", optional=True),
    ttl_seconds=duration_field("ttl"),
)


def _encode_cache_stats(stats: CacheStats) -> admin_pb2.CacheStats:
    """Returns the message of the statistics, with the hit rate for callers that only show it."""
    message = CACHE_STATS.encode(stats)
    if stats.hit_rate is not None:
        message.hit_rate = stats.hit_rate
    return message


MODEL_SERVICE_STATS = MessageCodec(
    ModelServiceStats,
    admin_pb2.ModelServiceStats,
    cache=Field(encode=_encode_cache_stats, decode=CACHE_STATS.decode),
    memory=field_of(MEMORY_USAGE),
)

encode_memory_usage, decode_memory_usage = MEMORY_USAGE.encode, MEMORY_USAGE.decode
encode_memory_release, decode_memory_release = MEMORY_RELEASE.encode, MEMORY_RELEASE.decode
encode_model_service_stats, decode_model_service_stats = MODEL_SERVICE_STATS.encode, MODEL_SERVICE_STATS.decode


def encode_clearance(clearance: CacheClearance, release: MemoryRelease) -> admin_pb2.CacheClearance:
    """Returns the message of what was removed from a cache, and of the memory that was released."""
    message = CACHE_CLEARANCE.encode(clearance)
    message.memory.CopyFrom(MEMORY_RELEASE.encode(release))
    return message


def decode_clearance(message: admin_pb2.CacheClearance) -> tuple[CacheClearance, MemoryRelease]:
    """Returns what was removed from a cache, and the memory that was released."""
    return CACHE_CLEARANCE.decode(message), MEMORY_RELEASE.decode(message.memory)
