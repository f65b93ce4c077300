"""The result cache that all replicas of a stage share: Redis, with an exact index that ``cache.lua`` keeps."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, cast

from careca.cache.circuit_breaker import RedisAwayError, RedisGate
from careca.cache.envelope import Envelope, seal
from careca.cache.port import CacheObserver, CacheOutcome, Flight, NoCache, Removal, ResultCache, Unobserved
from careca.cache.single_flight import SingleFlight
from careca.errors import Unavailable
from careca.telemetry.logs import get_logger
from careca.types import CacheClearance, CacheStats, ClearScope

LAYOUT = 2
"""Version of how entries are stored, and of what ``careca.inference.cached_stage`` puts before a result.

Entries of another version are never read, and are cleared as expired.
"""

RENEWALS_PER_LEASE = 3
"""How often a leader renews its lease before that runs out: more than one may be late."""

_POLL_SECONDS = 0.1
_PROBE_SECONDS = 0.5

_ANY_TIME = -1
_NEVER = 2**53
"""Past and future of every time in milliseconds."""

_log = get_logger(__name__)


def create_cache(
    redis_url: str,
    *,
    namespace: str,
    model: str,
    schema: int,
    ttl_seconds: float,
    max_entries: int,
    timeout_seconds: float,
    observer: CacheObserver | None = None,
) -> ResultCache:
    """The cache in the Redis at this address, or the one that stores nothing where the address is empty."""
    if not redis_url:
        return NoCache(observer)
    return RedisResultCache(
        redis_url,
        namespace=namespace,
        model=model,
        schema=schema,
        ttl_seconds=ttl_seconds,
        max_entries=max_entries,
        timeout_seconds=timeout_seconds,
        observer=observer,
    )


class RedisResultCache(ResultCache):
    """A stage's results in Redis.

    An entry lives for ``ttl_seconds`` from when it was stored; being read makes it recently used, not younger. A
    request that waited for another one's computation counts as a hit in place of the miss that its lookup was.
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
            redis_url: where Redis is, as redis-py reads it.
            namespace: the stage's name; keys of other namespaces are never touched.
            model: ``Engine.model``; entries of others are cleared as expired.
            schema: version of the results' layout, as in ``cache_key``; entries of others are cleared as expired.
            ttl_seconds: time from storing an entry to its end.
            max_entries: most entries held, of all replicas together.
            max_entry_bytes: most bytes of one entry, compressed; a larger one is not stored.
            timeout_seconds: most that one question to Redis may take.
            lease_seconds: time after which a leader that vanished is replaced; leaders renew it while they compute.
            observer: told what happens.
        """
        if not re.fullmatch(r"[a-z][a-z0-9-]*", namespace):
            raise ValueError(f"a namespace is made of a-z, 0-9 and -, which {namespace!r} is not")
        self._prefix = f"careca:{{{namespace}}}"
        self._namespace = namespace
        self._origin = f"{LAYOUT}:{schema}:{model}"
        self._ttl_seconds = ttl_seconds
        self._max_entries = max_entries
        self._max_entry_bytes = max_entry_bytes
        self._lease_seconds = lease_seconds
        self._observer = observer or Unobserved()
        self._flights = SingleFlight()
        self._uncounted_hits = 0
        self._uncounted_misses = 0
        self._gate = RedisGate(
            redis_url,
            timeout_seconds=timeout_seconds,
            probe_seconds=_PROBE_SECONDS,
            probe=self._count_what_was_missed,
            on_change=self._observer.cache_available,
        )
        self._script = self._gate.client.register_script(_script())

    async def get(self, key: str) -> bytes | None:
        """The stored result, or ``None``; also where Redis is away, within the time limit."""
        try:
            value = await self._lookup(key)
        except RedisAwayError:
            self._uncounted_misses += 1
            self._observer.cache_requested(CacheOutcome.ERROR)
            value = None
        self._observer.cache_requested(CacheOutcome.MISS if value is None else CacheOutcome.HIT)
        return value

    async def put(self, key: str, value: bytes) -> None:
        """Hands the result to everybody who waits, and stores it unless it is too large or Redis is away."""
        self._flights.land(key, value)
        envelope = await seal(value)
        size_bytes = len(envelope.payload)
        if size_bytes > self._max_entry_bytes:
            _log.warning("result too large to cache", size_bytes=size_bytes, max_entry_bytes=self._max_entry_bytes)
            return
        limits = (_milliseconds(self._ttl_seconds), self._max_entries)
        with contextlib.suppress(RedisAwayError):
            self._observer.cache_sized(*await self._run("put", key, self._origin, *envelope, *limits))

    async def stats(self) -> CacheStats:
        """The live state; where Redis is away only the limits are set."""
        try:
            counts = await self._run("stats")
        except RedisAwayError:
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
        """Removes entries and locks. Flights go on: their results are stored as new ones.

        Raises ``Unavailable`` where Redis is away.
        """
        operation = ("clear_all",) if scope is ClearScope.ALL else ("clear_expired", self._origin)
        try:
            entries, size, locks, *left = await self._run(*operation, insist=True)
        except RedisAwayError as error:
            raise Unavailable(
                f"The cache of the {self._namespace} cannot be cleared because its Redis does not answer.",
                reason="CACHE_UNAVAILABLE",
                retry_after_seconds=_PROBE_SECONDS,
                metadata={"cache": self._namespace},
            ) from error
        self._observer.cache_sized(*left)
        return CacheClearance(removed_entries=entries, removed_bytes=size, removed_locks=locks)

    @asynccontextmanager
    async def flight(self, key: str, *, recompute: bool = False) -> AsyncIterator[Flight]:
        """One computation for all callers, of this process and of other replicas while Redis answers."""
        async with self._flights.board(key) as landed, self._lead(key, landed, recompute=recompute) as value:
            if value is not None:
                await self._count_coalesced(looked=not recompute)
            yield Flight(leader=value is None, value=value)

    async def close(self) -> None:
        """Closes all connections and stops background tasks."""
        await self._gate.aclose()

    async def _run(self, operation: str, *arguments: bytes | str | int, insist: bool = False) -> list[Any]:
        """What ``cache.lua`` answers to this operation. Raises ``RedisAwayError``."""

        async def command() -> list[Any]:
            return cast("list[Any]", await self._script(keys=[self._prefix], args=[operation, *arguments]))

        ask = self._gate.insist if insist else self._gate.call
        expired, lru, cleared, *results = await ask(command)
        for reason, entries in ((Removal.EXPIRED, expired), (Removal.LRU, lru), (Removal.CLEARED, cleared)):
            if entries:
                self._observer.cache_removed(reason, entries)
        return results

    async def _lookup(self, key: str) -> bytes | None:
        if not (entry := await self._run("get", key, self._origin)):
            return None
        try:
            return Envelope(*entry).open()
        except ValueError as error:
            _log.warning("damaged cache entry removed", key=key, error=str(error))
            await self._run("discard", key, Envelope(*entry).checksum)
            return None

    @asynccontextmanager
    async def _lead(self, key: str, value: bytes | None, *, recompute: bool) -> AsyncIterator[bytes | None]:
        """Leads among the replicas, or has the result of the one that does; ``value`` where it is known already."""
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
                self._flights.land(key, value)
            yield value
        finally:
            if renewal:
                renewal.cancel()
            if value is None:
                # Also after a wait that was broken off: the lock may have been granted in an answer that never came.
                with contextlib.suppress(RedisAwayError):
                    await self._run("release", key, token)

    async def _acquire(self, key: str, token: str, *, recompute: bool) -> bytes | None:
        """Waits for the lock or for the result of its holder: ``None`` means that this caller is to compute.

        Without Redis it is, too: then each replica computes for itself.
        """
        since = _NEVER if recompute else _ANY_TIME
        lease = _milliseconds(self._lease_seconds)
        with contextlib.suppress(RedisAwayError):
            while True:
                state, now, *entry = await self._run("acquire", key, self._origin, token, lease, since)
                if state == b"granted":
                    return None
                if state == b"held":
                    since = min(since, now)
                    await asyncio.sleep(_POLL_SECONDS)
                    continue
                try:
                    return Envelope(*entry).open()
                except ValueError as error:
                    _log.warning("damaged cache entry ignored", key=key, error=str(error))
                    since = now
        return None

    async def _renew(self, key: str, token: str) -> None:
        """Keeps the lock while its holder computes. Who lost it finishes all the same, and stores the same result."""
        while True:
            await asyncio.sleep(self._lease_seconds / RENEWALS_PER_LEASE)
            with contextlib.suppress(RedisAwayError):
                (kept,) = await self._run("renew", key, token, _milliseconds(self._lease_seconds))
                if not kept:
                    _log.warning("lost the lock of a computation, which another replica may do as well", key=key)
                    return

    async def _count_coalesced(self, *, looked: bool) -> None:
        """Counts a request answered by another one's computation as a hit, in place of the miss of its lookup."""
        self._observer.cache_requested(CacheOutcome.COALESCED)
        misses = -1 if looked else 0
        try:
            await self._run("count", 1, misses)
        except RedisAwayError:
            self._uncounted_hits += 1
            self._uncounted_misses += misses

    async def _count_what_was_missed(self) -> None:
        """Adds what was counted while Redis was away to the shared counters."""
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
