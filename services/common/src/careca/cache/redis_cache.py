"""The cache in Redis that all replicas of a stage share. ``cache.lua`` keeps an exact index of the entries."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, cast

from careca.cache.circuit_breaker import CircuitBreaker, RedisUnavailableError
from careca.cache.envelope import Envelope, wrap
from careca.cache.port import CacheObserver, CacheOutcome, Removal, ResultCache
from careca.cache.single_flight import SingleFlight
from careca.errors import Unavailable
from careca.telemetry.logs import get_logger
from careca.types import CacheClearance, CacheStats, ClearScope

LAYOUT = 2
"""Version of the storage layout, including the header that ``careca.inference.cached_stage`` adds to a result.

Entries of another version are never read, and are cleared as expired.
"""

RENEWALS_PER_LEASE = 3
"""How often a leader renews its lease before the lease ends, so that one renewal may be late."""

_POLL_SECONDS = 0.1
_PROBE_SECONDS = 0.5

_ANY_TIME = -1
_NEVER = 2**53
"""Before and after every possible time in milliseconds."""

_log = get_logger(__name__)


class RedisResultCache(ResultCache):
    """A stage's results in Redis.

    An entry expires ``ttl_seconds`` after it was stored; reading it does not extend that. A request that waited for the
    computation of another one counts as a hit, and the miss of its lookup is taken back.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        namespace: str,
        model: str,
        schema: int = 1,
        ttl_seconds: float = 86_400,
        max_entries: int = 100,
        max_entry_bytes: int = 8 * 1024 * 1024,
        timeout_seconds: float = 0.25,
        lease_seconds: float = 10,
        observer: CacheObserver | None = None,
    ) -> None:
        """Connects to nothing yet.

        Args:
            redis_url: the URL of Redis, in redis-py's format.
            namespace: the name of the stage; keys of other namespaces are never touched.
            model: ``Engine.model``; entries of other models are cleared as expired.
            schema: version of the layout of results, as in ``cache_key``; entries of others are cleared as expired.
            ttl_seconds: how long an entry is kept.
            max_entries: largest number of entries, for all replicas together.
            max_entry_bytes: largest size of one entry, compressed; larger ones are not stored.
            timeout_seconds: longest time of one call to Redis.
            lease_seconds: time after which a leader that has died is replaced; leaders renew it while they compute.
            observer: receives the events of the cache.
        """
        if not re.fullmatch(r"[a-z][a-z0-9-]*", namespace):
            raise ValueError(f"a namespace consists of a-z, 0-9 and -, but is {namespace!r}")
        self._prefix = f"careca:{{{namespace}}}"
        self._namespace = namespace
        self._origin = f"{LAYOUT}:{schema}:{model}"
        self._ttl_seconds = ttl_seconds
        self._max_entries = max_entries
        self._max_entry_bytes = max_entry_bytes
        self._lease_seconds = lease_seconds
        self._observer = observer or CacheObserver()
        self._flights = SingleFlight()
        self._uncounted_hits = 0
        self._uncounted_misses = 0
        self._redis = CircuitBreaker(
            redis_url,
            timeout_seconds=timeout_seconds,
            probe_seconds=_PROBE_SECONDS,
            probe=self._flush_counters,
            on_change=self._observer.cache_available,
        )
        self._script = self._redis.client.register_script(_script())

    async def get(self, key: str) -> bytes | None:
        """Returns the stored result, or ``None``, also if Redis is unavailable; within the time limit."""
        try:
            value = await self._lookup(key)
        except RedisUnavailableError:
            self._uncounted_misses += 1
            self._observer.cache_requested(CacheOutcome.ERROR)
            value = None
        self._observer.cache_requested(CacheOutcome.MISS if value is None else CacheOutcome.HIT)
        return value

    async def put(self, key: str, value: bytes) -> None:
        """Passes the result to all waiting callers, and stores it unless it is too large or Redis is unavailable."""
        self._flights.resolve(key, value)
        envelope = await wrap(value)
        size_bytes = len(envelope.payload)
        if size_bytes > self._max_entry_bytes:
            _log.warning("result too large to cache", size_bytes=size_bytes, max_entry_bytes=self._max_entry_bytes)
            return
        limits = (_milliseconds(self._ttl_seconds), self._max_entries)
        with contextlib.suppress(RedisUnavailableError):
            self._observer.cache_sized(*await self._run("put", key, self._origin, *envelope, *limits))

    async def stats(self) -> CacheStats:
        """Returns the current state; only the limits if Redis is unavailable."""
        try:
            counts = await self._run("stats")
        except RedisUnavailableError:
            return CacheStats(available=False, max_entries=self._max_entries, ttl_seconds=self._ttl_seconds)
        hits, misses, stores, evictions, expiries, entries, size, *stored_between = counts
        self._observer.cache_sized(entries, size)
        oldest, newest = (int(moment) / 1000 for moment in stored_between) if stored_between else (None, None)
        return CacheStats(
            available=True,
            entries=entries,
            size_bytes=size,
            hits=hits,
            misses=misses,
            stores=stores,
            evictions=evictions,
            expiries=expiries,
            oldest_entry_unix=oldest,
            newest_entry_unix=newest,
            max_entries=self._max_entries,
            ttl_seconds=self._ttl_seconds,
        )

    async def clear(self, scope: ClearScope) -> CacheClearance:
        """Removes entries and locks. Computations in flight continue, and their results are stored as new entries.

        Raises ``Unavailable`` if Redis is unavailable.
        """
        operation = ("clear_all",) if scope is ClearScope.ALL else ("clear_expired", self._origin)
        try:
            entries, size, locks, *left = await self._run(*operation, force=True)
        except RedisUnavailableError as error:
            raise Unavailable(
                f"The cache of the {self._namespace} cannot be cleared because its Redis does not answer.",
                reason="CACHE_UNAVAILABLE",
                retry_after_seconds=_PROBE_SECONDS,
                metadata={"cache": self._namespace},
            ) from error
        self._observer.cache_sized(*left)
        return CacheClearance(removed_entries=entries, removed_bytes=size, removed_locks=locks)

    @asynccontextmanager
    async def flight(self, key: str, *, recompute: bool = False) -> AsyncIterator[bytes | None]:
        """One computation for all callers in this process, and in all replicas while Redis answers."""
        async with self._flights.join(key) as local, self._lead(key, local, recompute=recompute) as value:
            if value is not None:
                await self._count_coalesced(looked=not recompute)
            yield value

    async def close(self) -> None:
        """Closes all connections and stops background tasks."""
        await self._redis.aclose()

    async def _run(self, operation: str, *arguments: bytes | str | int, force: bool = False) -> list[Any]:
        """Returns the answer of ``cache.lua`` to this operation. Raises ``RedisUnavailableError``."""

        async def command() -> list[Any]:
            return cast("list[Any]", await self._script(keys=[self._prefix], args=[operation, *arguments]))

        expired, lru, cleared, *results = await self._redis.call(command, force=force)
        for reason, entries in ((Removal.EXPIRED, expired), (Removal.LRU, lru), (Removal.CLEARED, cleared)):
            if entries:
                self._observer.cache_removed(reason, entries)
        return results

    async def _lookup(self, key: str) -> bytes | None:
        if not (entry := await self._run("get", key, self._origin)):
            return None
        try:
            return Envelope(*entry).unwrap()
        except ValueError as error:
            _log.warning("damaged cache entry removed", key=key, error=str(error))
            await self._run("discard", key, Envelope(*entry).checksum)
            return None

    @asynccontextmanager
    async def _lead(self, key: str, value: bytes | None, *, recompute: bool) -> AsyncIterator[bytes | None]:
        """Yields ``None`` to the leader among the replicas, and its result to the others; ``value`` if it is known."""
        if value is not None:
            yield value
            return
        token = secrets.token_hex(16)
        renewal: asyncio.Task[None] | None = None
        try:
            value = await self._acquire(key, token, recompute=recompute)
            if value is None:
                renewal = asyncio.create_task(self._renew(key, token))
            else:
                self._flights.resolve(key, value)
            yield value
        finally:
            if renewal:
                renewal.cancel()
            if value is None:
                # Also after an interrupted wait: Redis may have granted the lock in an answer that was lost.
                with contextlib.suppress(RedisUnavailableError):
                    await self._run("release", key, token)

    async def _acquire(self, key: str, token: str, *, recompute: bool) -> bytes | None:
        """Waits for the lock or for the result of its holder. ``None`` means that this caller must compute.

        Without Redis it must compute too: then each replica computes for itself.
        """
        since = _NEVER if recompute else _ANY_TIME
        lease = _milliseconds(self._lease_seconds)
        with contextlib.suppress(RedisUnavailableError):
            while True:
                state, now, *entry = await self._run("acquire", key, self._origin, token, lease, since)
                if state == b"granted":
                    return None
                if state == b"held":
                    since = min(since, now)
                    await asyncio.sleep(_POLL_SECONDS)
                    continue
                try:
                    return Envelope(*entry).unwrap()
                except ValueError as error:
                    _log.warning("damaged cache entry ignored", key=key, error=str(error))
                    since = now
        return None

    async def _renew(self, key: str, token: str) -> None:
        """Renews the lock while its holder computes. A holder that loses it continues and stores the same result."""
        while True:
            await asyncio.sleep(self._lease_seconds / RENEWALS_PER_LEASE)
            with contextlib.suppress(RedisUnavailableError):
                (kept,) = await self._run("renew", key, token, _milliseconds(self._lease_seconds))
                if not kept:
                    _log.warning("lost the lock of a computation; another replica may compute it too", key=key)
                    return

    async def _count_coalesced(self, *, looked: bool) -> None:
        """Counts a request that another computation answered as a hit, and takes back the miss of its lookup."""
        self._observer.cache_requested(CacheOutcome.COALESCED)
        misses = -1 if looked else 0
        try:
            await self._run("count", 1, misses)
        except RedisUnavailableError:
            self._uncounted_hits += 1
            self._uncounted_misses += misses

    async def _flush_counters(self) -> None:
        """Adds the counts from the time without Redis to the shared counters."""
        hits, misses = self._uncounted_hits, self._uncounted_misses
        self._uncounted_hits = self._uncounted_misses = 0
        try:
            await self._script(keys=[self._prefix], args=["count", hits, misses])
        except BaseException:
            self._uncounted_hits += hits
            self._uncounted_misses += misses
            raise


def _script() -> str:
    return resources.files("careca.cache").joinpath("cache.lua").read_text(encoding="utf-8")


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
