"""The port of a stage's result cache: what it promises, how a result is named, and the cache that stores nothing.

Bytes go in and bytes come out. A cache never fails a request: where its store is away, every lookup is a miss.
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
    """What became of a request to the cache.

    ``HIT`` and ``MISS`` part all lookups. ``COALESCED`` and ``ERROR`` say more of a miss: it was then answered by
    another request's computation, or it was one because the store did not answer. ``BYPASS`` is a request that was told
    not to look.
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


class CacheObserver(Protocol):
    """Told what a cache does as it happens, for metrics. Its methods are quick and never raise."""

    def cache_requested(self, outcome: CacheOutcome) -> None:
        """Counts one request with this outcome."""

    def cache_removed(self, reason: Removal, entries: int) -> None:
        """Counts ``entries`` entries that this process removed for this reason."""

    def cache_sized(self, entries: int, size_bytes: int) -> None:
        """Takes the entries and compressed bytes that the cache holds now, of all replicas together."""

    def cache_available(self, available: bool) -> None:
        """Takes whether the store answers; called when that changes, and once at the start."""


class Unobserved(CacheObserver):
    """Takes no notice."""

    def cache_requested(self, outcome: CacheOutcome) -> None:
        """Counts nothing."""

    def cache_removed(self, reason: Removal, entries: int) -> None:
        """Counts nothing."""

    def cache_sized(self, entries: int, size_bytes: int) -> None:
        """Takes no notice."""

    def cache_available(self, available: bool) -> None:
        """Takes no notice."""


@dataclasses.dataclass(frozen=True, slots=True)
class Flight:
    """A caller's part in computing one result.

    The leader computes and calls ``put`` before it leaves the flight. Everybody else has the leader's result in
    ``value``.
    """

    leader: bool
    value: bytes | None = None


class ResultCache(Protocol):
    """Results of one stage by key, least recently used first out, each for a fixed time from when it was stored."""

    async def get(self, key: str) -> bytes | None:
        """The stored result, which is then the most recently used; ``None`` is a miss. Both are counted.

        Entries past their time, damaged or of another schema are misses.
        """

    async def put(self, key: str, value: bytes) -> None:
        """Stores a result over what the key had, and hands it to everybody who waits in a flight for it."""

    async def stats(self) -> CacheStats:
        """The live state, shared by all replicas; ``available`` is false where the store does not answer."""

    async def clear(self, scope: ClearScope) -> CacheClearance:
        """Removes entries and locks of this stage only, and says how many. Counters go on.

        ``EXPIRED`` removes entries past their time, entries of another schema or model, and locks whose holder is gone.

        Raises ``Unavailable`` where the store does not answer.
        """

    def flight(self, key: str, *, recompute: bool = False) -> AbstractAsyncContextManager[Flight]:
        """One computation for all who ask for the same key at the same time, in this process and in other replicas.

        To be entered after a lookup that missed. The first to come enters at once as the leader. The others wait until
        the result is stored, and enter with it; where the leader leaves without one, exactly one of them takes over.
        ``recompute`` is for callers who did not look and want no result that was stored before they came.
        """

    async def close(self) -> None:
        """Lets go of connections and background tasks."""


def cache_key(*, schema: int, model: str, audio: Digest, options: DataclassInstance) -> str:
    """Names a result by everything that it depends on, as hexadecimal SHA-256.

    Args:
        schema: version of the result's layout and of the algorithm around the models.
        model: ids of the models with digests of their weights, ``Engine.model``.
        audio: digest of the decoded audio.
        options: a flat dataclass of what the caller may choose; every field counts.
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
    """Stores nothing, so that every lookup misses. Callers of this process still share computations in flight."""

    def __init__(self, observer: CacheObserver | None = None) -> None:
        self._observer = observer or Unobserved()
        self._flights = SingleFlight()
        self._observer.cache_available(False)

    async def get(self, key: str) -> bytes | None:
        """Always a miss."""
        self._observer.cache_requested(CacheOutcome.MISS)
        return None

    async def put(self, key: str, value: bytes) -> None:
        """Hands the result to everybody who waits in a flight for it."""
        self._flights.land(key, value)

    async def stats(self) -> CacheStats:
        """Never available."""
        return CacheStats(available=False)

    async def clear(self, scope: ClearScope) -> CacheClearance:
        """Removes nothing, for there is nothing."""
        return CacheClearance(removed_entries=0, removed_bytes=0)

    @asynccontextmanager
    async def flight(self, key: str, *, recompute: bool = False) -> AsyncIterator[Flight]:
        """One computation for all callers of this process."""
        async with self._flights.board(key) as value:
            if value is not None:
                self._observer.cache_requested(CacheOutcome.COALESCED)
            yield Flight(leader=value is None, value=value)

    async def close(self) -> None:
        """Does nothing."""
