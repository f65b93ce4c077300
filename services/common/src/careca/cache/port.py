"""The interface of a stage's result cache, the cache key, and an implementation that stores nothing.

Values are bytes. A cache never makes a request fail: if its store is unavailable, every lookup is a miss.
``careca.cache.redis_cache`` has the implementation that replicas share.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from careca.cache.single_flight import SingleFlight
from careca.types import CacheClearance, CacheStats, ClearScope, Digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from _typeshed import DataclassInstance


class CacheOutcome(enum.StrEnum):
    """The outcome of a request to the cache.

    Each lookup is a ``HIT`` or a ``MISS``. A miss may also be ``COALESCED``, if the computation of another request
    answered it, or an ``ERROR``, if the store did not answer. ``BYPASS`` is a request without a lookup.
    """

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"
    COALESCED = "coalesced"
    ERROR = "error"


class Removal(enum.StrEnum):
    """Why an entry left the cache."""

    LRU = "lru"
    EXPIRED = "expired"
    CLEARED = "cleared"


class CacheObserver:
    """Receives the events of a cache, for metrics, and ignores them here. Its methods are quick and never raise."""

    def cache_requested(self, outcome: CacheOutcome) -> None:
        """Counts one request with this outcome."""

    def cache_removed(self, reason: Removal, entries: int) -> None:
        """Counts entries that this process removed for this reason."""

    def cache_sized(self, entries: int, size_bytes: int) -> None:
        """Receives the number of entries and of compressed bytes in the cache that all replicas share."""

    def cache_available(self, available: bool) -> None:
        """Receives whether the store answers: once at the start, and after each change."""


class ResultCache(Protocol):
    """The results of one stage by key. Entries expire after a fixed time; the least recently used are evicted first."""

    async def get(self, key: str) -> bytes | None:
        """Returns the stored result and marks it as most recently used; ``None`` is a miss. Counts both.

        Expired and damaged entries and entries of another schema are misses.
        """

    async def put(self, key: str, value: bytes) -> None:
        """Stores a result, replacing an older one, and passes it to all callers that wait in a flight for it."""

    async def stats(self) -> CacheStats:
        """Returns the current state, shared by all replicas. ``available`` is false if the store does not answer."""

    async def clear(self, scope: ClearScope) -> CacheClearance:
        """Removes entries and locks of this stage only, and returns how many. Counters are kept.

        ``EXPIRED`` removes expired entries, entries of another schema or model, and locks whose holder is gone.

        Raises ``Unavailable`` if the store does not answer.
        """

    def flight(self, key: str, *, recompute: bool = False) -> AbstractAsyncContextManager[bytes | None]:
        """One computation for all callers that need the same key at the same time, in all replicas.

        Enter it after a miss. The first caller is the leader: it enters at once and gets ``None``, computes, and calls
        ``put`` before it leaves. The others wait until the result is stored, and get it. If the leader leaves without a
        result, exactly one of them takes over. ``recompute`` is for callers that made no lookup and do not accept a
        result that was stored before they came.
        """

    async def close(self) -> None:
        """Closes connections and ends background tasks."""


def cache_key(*, schema: int, model: str, audio: Digest, options: DataclassInstance) -> str:
    """Returns the key of a result: a hexadecimal SHA-256 over everything that the result depends on.

    Args:
        schema: version of the result's layout and of the algorithm around the models.
        model: ids of the models with digests of their weights, ``Engine.model``.
        audio: digest of the decoded audio.
        options: the caller's options as a flat dataclass; every field is part of the key.
    """
    parts = {
        "schema": schema,
        "model": model,
        "audio": dataclasses.asdict(audio),
        "options": dataclasses.asdict(options),
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


class NoCache(ResultCache):
    """Stores nothing, so every lookup is a miss. Callers in this process still share computations in flight."""

    def __init__(self, observer: CacheObserver | None = None) -> None:
        self._observer = observer or CacheObserver()
        self._flights = SingleFlight()
        self._observer.cache_available(False)

    async def get(self, key: str) -> bytes | None:
        """Always a miss."""
        self._observer.cache_requested(CacheOutcome.MISS)
        return None

    async def put(self, key: str, value: bytes) -> None:
        """Passes the result to all callers that wait in a flight for it."""
        self._flights.resolve(key, value)

    async def stats(self) -> CacheStats:
        """Never available."""
        return CacheStats(available=False)

    async def clear(self, scope: ClearScope) -> CacheClearance:
        """Removes nothing."""
        return CacheClearance(removed_entries=0, removed_bytes=0)

    @asynccontextmanager
    async def flight(self, key: str, *, recompute: bool = False) -> AsyncIterator[bytes | None]:
        """One computation for all callers of this process."""
        async with self._flights.join(key) as value:
            if value is not None:
                self._observer.cache_requested(CacheOutcome.COALESCED)
            yield value

    async def close(self) -> None:
        """Does nothing."""
