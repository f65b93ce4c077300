"""The contract of every result cache, and of the one in Redis, on a real Redis."""

import asyncio
import os
import socket
import subprocess
import sys
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from careca.cache import redis_cache
from careca.cache.port import CacheObserver, CacheOutcome, NoCache, Removal, ResultCache
from careca.cache.redis_cache import RedisResultCache
from careca.errors import Unavailable
from careca.types import CacheClearance, ClearScope
from support.redis_server import RedisServer
from support.waiting import HANG_SECONDS, eventually, settle, until

MakeCache = Callable[..., RedisResultCache]

LOCKS = "careca:{transcriber}:locks"
"""When leases end, in milliseconds."""


class Witness(CacheObserver):
    """Records all events."""

    def __init__(self) -> None:
        self.outcomes: Counter[CacheOutcome] = Counter()
        self.removals: Counter[Removal] = Counter()
        self.size = (0, 0)
        self.availability: list[bool] = []

    def cache_requested(self, outcome: CacheOutcome) -> None:
        self.outcomes[outcome] += 1

    def cache_removed(self, reason: Removal, entries: int) -> None:
        self.removals[reason] += entries

    def cache_sized(self, entries: int, size_bytes: int) -> None:
        self.size = (entries, size_bytes)

    def cache_available(self, available: bool) -> None:
        self.availability.append(available)


class Computation:
    """A slow computation that counts its starts and continues when it is released."""

    def __init__(self, value: bytes = b"result") -> None:
        self.value = value
        self.started = 0
        self.may_finish = asyncio.Event()
        self.leading = asyncio.Event()

    async def through(self, cache: ResultCache, key: str = "key", *, recompute: bool = False) -> bytes:
        """The result for one request, computed or not, as a stage gets it."""
        if not recompute and (value := await cache.get(key)) is not None:
            return value
        async with cache.flight(key, recompute=recompute) as value:
            if value is not None:
                return value
            self.started += 1
            self.leading.set()
            await self.may_finish.wait()
            await cache.put(key, self.value)
            return self.value


class Lease:
    """The lease of the lock for the key "key". A test can shorten it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    @property
    def seconds_left(self) -> float:
        seconds, microseconds = self._client.time()
        return float(self._client.zscore(LOCKS, "key")) / 1000 - seconds - microseconds / 1e6

    def pass_by(self, seconds: float) -> None:
        """As if so many seconds had gone by since it was last renewed."""
        self._client.zincrby(LOCKS, -1000 * seconds, "key")


@pytest.fixture
async def make_cache(redis_url: str) -> AsyncIterator[MakeCache]:
    """Creates caches of several replicas in one Redis."""
    made: list[RedisResultCache] = []

    def make(**settings: object) -> RedisResultCache:
        # Patient, so that a busy machine is not taken for an outage.
        choices: dict[str, object] = {
            "redis_url": redis_url,
            "namespace": "transcriber",
            "model": "model@1",
            "timeout_seconds": 5,
        }
        made.append(RedisResultCache(**(choices | settings)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for cache in made:
        await cache.close()


@pytest.fixture
def lease(redis_server: RedisServer) -> Iterator[Lease]:
    with redis_server.client() as client:
        yield Lease(client)


@pytest.fixture(params=["redis", "redis stopped", "none"])
async def any_cache(request: pytest.FixtureRequest, redis_server: RedisServer) -> AsyncIterator[ResultCache]:
    if request.param == "redis stopped":
        redis_server.stop()
    cache: ResultCache = NoCache()
    if request.param != "none":
        cache = RedisResultCache(redis_server.url, namespace="diarizer", model="m@1", timeout_seconds=5)
    yield cache
    await cache.close()


# Every cache


async def test_a_key_that_was_never_stored_is_a_miss(any_cache: ResultCache) -> None:
    assert await any_cache.get("key") is None


async def test_callers_of_one_process_compute_once_and_all_get_the_result(any_cache: ResultCache) -> None:
    computation = Computation()
    callers = [asyncio.create_task(computation.through(any_cache)) for _ in range(50)]
    await computation.leading.wait()
    await settle()

    computation.may_finish.set()

    assert await asyncio.gather(*callers) == [b"result"] * 50
    assert computation.started == 1


async def test_callers_for_different_keys_do_not_wait_for_each_other(any_cache: ResultCache) -> None:
    async with any_cache.flight("one") as one, any_cache.flight("other") as other:
        assert one is None
        assert other is None


async def test_when_the_leader_fails_exactly_one_follower_takes_over(any_cache: ResultCache) -> None:
    computation = Computation()

    async def fail() -> None:
        async with any_cache.flight("key"):
            await computation.leading.wait()
            raise ValueError("out of luck")

    failing = asyncio.create_task(fail())
    await settle()
    followers = [asyncio.create_task(computation.through(any_cache)) for _ in range(10)]
    await settle()
    assert computation.started == 0

    computation.leading.set()
    computation.may_finish.set()

    with pytest.raises(ValueError, match="out of luck"):
        await failing
    assert await asyncio.gather(*followers) == [b"result"] * 10
    assert computation.started == 1


async def test_when_the_leader_is_cancelled_exactly_one_follower_takes_over(any_cache: ResultCache) -> None:
    doomed, computation = Computation(), Computation()
    leader = asyncio.create_task(doomed.through(any_cache))
    await doomed.leading.wait()
    followers = [asyncio.create_task(computation.through(any_cache)) for _ in range(10)]
    await settle()

    leader.cancel()
    computation.may_finish.set()

    assert await asyncio.gather(*followers) == [b"result"] * 10
    assert computation.started == 1
    assert leader.cancelled()


async def test_a_cancelled_follower_does_not_affect_the_others(any_cache: ResultCache) -> None:
    computation = Computation()
    leader = asyncio.create_task(computation.through(any_cache))
    await computation.leading.wait()
    first, second = (asyncio.create_task(computation.through(any_cache)) for _ in range(2))
    await settle()

    first.cancel()
    computation.may_finish.set()

    assert list(await asyncio.gather(leader, second)) == [b"result"] * 2
    assert computation.started == 1


async def test_when_a_follower_is_cancelled_while_it_takes_over_the_next_one_takes_over(any_cache: ResultCache) -> None:
    doomed, computation = Computation(), Computation()
    leader = asyncio.create_task(doomed.through(any_cache))
    await doomed.leading.wait()
    followers = [asyncio.create_task(computation.through(any_cache)) for _ in range(3)]
    await settle()

    leader.cancel()
    await asyncio.wait([leader])
    followers[0].cancel()
    computation.may_finish.set()

    assert await asyncio.gather(*followers[1:]) == [b"result"] * 2
    assert computation.started <= 2


async def test_a_cache_can_be_closed_twice(any_cache: ResultCache) -> None:
    await any_cache.get("key")

    await any_cache.close()
    await any_cache.close()


# No cache


async def test_without_a_redis_nothing_is_stored_and_clearing_removes_nothing() -> None:
    cache = NoCache()

    await cache.put("key", b"result")

    assert await cache.get("key") is None
    assert not (await cache.stats()).available
    assert await cache.clear(ClearScope.ALL) == CacheClearance(removed_entries=0, removed_bytes=0)


# Hits, misses, time


async def test_what_was_stored_is_a_hit_for_every_replica(make_cache: MakeCache) -> None:
    one, other = make_cache(), make_cache()

    await one.put("key", b"result" * 100_000)

    assert await one.get("key") == b"result" * 100_000
    assert await other.get("key") == b"result" * 100_000


async def test_an_empty_result_is_a_result(make_cache: MakeCache) -> None:
    cache = make_cache()

    await cache.put("key", b"")

    assert await cache.get("key") == b""


async def test_storing_again_replaces_the_result(make_cache: MakeCache) -> None:
    cache = make_cache()
    await cache.put("key", b"old")

    await cache.put("key", b"new")

    assert await cache.get("key") == b"new"
    assert (await cache.stats()).entries == 1


async def test_an_expired_entry_is_a_miss_and_is_counted_as_expired_exactly_once(make_cache: MakeCache) -> None:
    witness = Witness()
    caches = [make_cache(ttl_seconds=0.05, observer=witness) for _ in range(2)]
    await caches[0].put("key", b"result")

    async def expired() -> bool:
        return await caches[0].get("key") is None

    await eventually(expired)
    await asyncio.gather(*(cache.stats() for cache in caches * 5))

    stats = await caches[1].stats()
    assert (stats.expiries, stats.evictions, stats.entries, stats.size_bytes) == (1, 0, 0, 0)
    assert witness.removals == {Removal.EXPIRED: 1}


async def test_reading_an_entry_does_not_extend_its_time(make_cache: MakeCache) -> None:
    cache = make_cache(ttl_seconds=0.3)
    await cache.put("key", b"result")

    async def gone_though_read_all_the_time() -> bool:
        return await cache.get("key") is None

    await eventually(gone_though_read_all_the_time)


async def test_a_damaged_entry_is_removed_and_counts_as_a_miss(
    make_cache: MakeCache, redis_server: RedisServer
) -> None:
    witness = Witness()
    cache = make_cache(observer=witness)
    await cache.put("key", b"result")
    with redis_server.client() as client:
        client.hset("careca:{transcriber}:entry:key", "payload", b"junk")

    assert await cache.get("key") is None

    stats = await cache.stats()
    assert (stats.entries, stats.hits, stats.misses) == (0, 0, 1)
    assert witness.outcomes == {CacheOutcome.MISS: 1}


async def test_a_damaged_entry_is_not_passed_to_a_follower(make_cache: MakeCache, redis_server: RedisServer) -> None:
    cache = make_cache()
    await cache.put("key", b"result")
    with redis_server.client() as client:
        client.hset("careca:{transcriber}:entry:key", "checksum", b"00000000")

    async with cache.flight("key") as value:
        assert value is None


async def test_an_entry_of_another_schema_is_a_miss(make_cache: MakeCache) -> None:
    await make_cache(schema=1).put("key", b"result")

    assert await make_cache(schema=2).get("key") is None


async def test_data_that_is_not_in_the_index_is_a_miss(make_cache: MakeCache, redis_server: RedisServer) -> None:
    cache = make_cache()
    await cache.put("key", b"result")
    with redis_server.client() as client:
        client.delete("careca:{transcriber}:used", "careca:{transcriber}:expires")

    assert await cache.get("key") is None
    with redis_server.client() as client:
        assert not client.exists("careca:{transcriber}:entry:key")


async def test_a_result_that_is_too_large_is_not_stored_but_passed_to_waiting_callers(make_cache: MakeCache) -> None:
    cache = make_cache(max_entry_bytes=1000)
    computation = Computation(os.urandom(2000))
    callers = [asyncio.create_task(computation.through(cache)) for _ in range(3)]
    await computation.leading.wait()
    await eventually(lambda: _are_misses(cache, 3))
    await settle()

    with capture_logs() as logs:
        computation.may_finish.set()
        results = await asyncio.gather(*callers)

    assert results == [computation.value] * 3
    assert computation.started == 1
    assert (await cache.stats()).stores == 0
    assert [line["max_entry_bytes"] for line in logs] == [1000]


# Least recently used


async def test_the_least_recently_used_entry_is_evicted_first_and_counted(
    make_cache: MakeCache,
) -> None:
    witness = Witness()
    cache = make_cache(max_entries=3, observer=witness)
    for key in ("a", "b", "c"):
        await cache.put(key, b"result")
    await cache.get("a")

    for key in ("d", "e"):
        await cache.put(key, b"result")

    assert [key for key in "abcde" if await cache.get(key)] == ["a", "d", "e"]
    assert (await cache.stats()).evictions == 2
    assert witness.removals == {Removal.LRU: 2}


async def test_a_smaller_limit_applies_from_the_next_result(make_cache: MakeCache) -> None:
    for key in ("a", "b", "c", "d"):
        await make_cache(max_entries=4).put(key, b"result")

    smaller = make_cache(max_entries=2)
    await smaller.put("e", b"result")

    stats = await smaller.stats()
    assert (stats.entries, stats.evictions, stats.max_entries) == (2, 3, 2)


async def test_an_entry_that_redis_evicted_itself_counts_as_evicted(
    make_cache: MakeCache, redis_server: RedisServer
) -> None:
    cache = make_cache()
    for key in ("a", "b"):
        await cache.put(key, b"result")
    with redis_server.client() as client:
        client.delete("careca:{transcriber}:entry:a")

    stats = await cache.stats()

    assert (stats.entries, stats.evictions, stats.expiries) == (1, 1, 0)


_namespaces = iter(range(1_000_000))


@given(
    steps=st.lists(st.tuples(st.sampled_from(["put", "get"]), st.sampled_from("abcdef")), max_size=30),
    max_entries=st.integers(1, 4),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_any_sequence_of_uses_has_the_same_entries_as_an_ordered_dictionary(
    redis_url: str, steps: list[tuple[str, str]], max_entries: int
) -> None:
    model: OrderedDict[str, bytes] = OrderedDict()
    counts: Counter[str] = Counter()

    async def play() -> None:
        cache = RedisResultCache(
            redis_url, namespace=f"n{next(_namespaces)}", model="m", max_entries=max_entries, timeout_seconds=5
        )
        for number, (step, key) in enumerate(steps):
            if step == "put":
                model[key] = b"%d" % number
                model.move_to_end(key)
                await cache.put(key, model[key])
                if len(model) > max_entries:
                    model.popitem(last=False)
                    counts["evictions"] += 1
            else:
                assert await cache.get(key) == model.get(key)
                counts["hits" if key in model else "misses"] += 1
                if key in model:
                    model.move_to_end(key)
        stats = await cache.stats()
        assert (stats.entries, stats.evictions) == (len(model), counts["evictions"])
        assert (stats.hits, stats.misses) == (counts["hits"], counts["misses"])
        await cache.close()

    asyncio.run(play())


# Stats


async def test_statistics_are_shared_by_replicas_and_survive_a_restart_of_the_service(make_cache: MakeCache) -> None:
    one, other = make_cache(ttl_seconds=60, max_entries=5), make_cache(ttl_seconds=60, max_entries=5)
    await one.put("key", b"result")
    await one.get("key")
    await other.get("key")
    await other.get("absent")
    await one.close()
    await other.close()

    stats = await make_cache(ttl_seconds=60, max_entries=5).stats()

    assert stats.available
    assert (stats.entries, stats.hits, stats.misses, stats.stores) == (1, 2, 1, 1)
    assert stats.hit_rate == pytest.approx(2 / 3)
    assert (stats.max_entries, stats.ttl_seconds) == (5, 60)


async def test_statistics_name_the_oldest_and_the_newest_entry_and_their_bytes(make_cache: MakeCache) -> None:
    witness = Witness()
    cache = make_cache(observer=witness)
    empty = await cache.stats()
    await cache.put("old", b"result")
    await asyncio.sleep(0.01)
    await cache.put("new", b"result")

    stats = await cache.stats()

    assert (empty.oldest_entry_unix, empty.newest_entry_unix, empty.hit_rate) == (None, None, None)
    assert stats.oldest_entry_unix is not None
    assert stats.newest_entry_unix is not None
    assert stats.oldest_entry_unix < stats.newest_entry_unix
    assert witness.size == (2, stats.size_bytes)
    assert stats.size_bytes > 0


async def test_the_observer_sees_each_lookup_as_a_hit_or_a_miss(make_cache: MakeCache) -> None:
    witness = Witness()
    cache = make_cache(observer=witness)

    await cache.get("key")
    await cache.put("key", b"result")
    await cache.get("key")

    assert witness.outcomes == {CacheOutcome.MISS: 1, CacheOutcome.HIT: 1}


# Clearing


async def test_clearing_all_removes_every_entry_of_this_stage_and_nothing_else(
    make_cache: MakeCache, redis_server: RedisServer
) -> None:
    cache, diarizer = make_cache(), make_cache(namespace="diarizer")
    await diarizer.put("key", b"result")
    with redis_server.client() as client:
        client.set("something else", "kept")
    await cache.put("key", b"result")
    await make_cache(model="other@2").put("other key", b"result")
    size_bytes = (await cache.stats()).size_bytes

    cleared = await cache.clear(ClearScope.ALL)

    assert cleared == CacheClearance(removed_entries=2, removed_bytes=size_bytes, removed_locks=0)
    assert await cache.get("key") is None
    assert await diarizer.get("key") == b"result"
    with redis_server.client() as client:
        assert client.get("something else") == b"kept"
        assert not list(client.scan_iter("careca:{transcriber}:entry:*"))


async def test_counters_survive_clearing(make_cache: MakeCache) -> None:
    cache = make_cache()
    await cache.put("key", b"result")
    await cache.get("key")

    await cache.clear(ClearScope.ALL)

    stats = await cache.stats()
    assert (stats.entries, stats.size_bytes, stats.hits, stats.stores) == (0, 0, 1, 1)


async def test_clearing_expired_removes_only_expired_entries_and_those_of_another_schema_or_model(
    make_cache: MakeCache,
) -> None:
    witness = Witness()
    cache = make_cache(observer=witness)
    await cache.put("live", b"result")
    live_bytes = (await cache.stats()).size_bytes
    await make_cache(model="other@2").put("of another model", b"result")
    await make_cache(schema=2).put("of another schema", b"result")
    await make_cache(ttl_seconds=0.001).put("expired", b"result")
    await asyncio.sleep(0.02)

    cleared = await cache.clear(ClearScope.EXPIRED)

    assert cleared == CacheClearance(removed_entries=3, removed_bytes=3 * live_bytes, removed_locks=0)
    assert await cache.get("live") == b"result"
    stats = await cache.stats()
    assert (stats.entries, stats.expiries, stats.evictions) == (1, 1, 0)
    assert witness.removals == {Removal.EXPIRED: 1, Removal.CLEARED: 2}
    assert witness.size == (1, live_bytes)


async def test_clearing_expired_removes_locks_of_dead_holders_and_keeps_the_others(
    make_cache: MakeCache, redis_url: str, lease: Lease
) -> None:
    cache = make_cache(lease_seconds=3600)
    with leader_in_another_process(redis_url, lease_seconds=3600) as process:
        process.kill()
        process.wait()
    lease.pass_by(3600)

    async with cache.flight("held"):
        assert (await cache.clear(ClearScope.EXPIRED)).removed_locks == 1
        assert (await cache.clear(ClearScope.EXPIRED)).removed_locks == 0
        assert (await cache.clear(ClearScope.ALL)).removed_locks == 1


async def test_clearing_while_a_result_is_computed_does_not_lose_it(make_cache: MakeCache) -> None:
    cache = make_cache()

    async with cache.flight("key") as value:
        await cache.clear(ClearScope.ALL)
        await cache.put("key", b"result")

    assert value is None
    assert await cache.get("key") == b"result"


# One computation across replicas


async def test_callers_of_two_replicas_compute_once_and_count_as_hits(make_cache: MakeCache) -> None:
    witness = Witness()
    replicas = [make_cache(observer=witness), make_cache(observer=witness)]
    computation = Computation()
    callers = [asyncio.create_task(computation.through(replicas[number % 2])) for number in range(50)]
    await computation.leading.wait()
    await eventually(lambda: _are_misses(replicas[0], 50))

    computation.may_finish.set()

    assert await asyncio.gather(*callers) == [b"result"] * 50
    assert computation.started == 1
    stats = await replicas[0].stats()
    assert (stats.hits, stats.misses) == (49, 1)
    assert witness.outcomes == {CacheOutcome.MISS: 50, CacheOutcome.COALESCED: 49}


async def _are_misses(cache: ResultCache, expected: int) -> bool:
    return (await cache.stats()).misses == expected


async def test_a_result_stored_between_lookup_and_flight_is_not_computed_again(make_cache: MakeCache) -> None:
    one, other = make_cache(), make_cache()
    assert await one.get("key") is None

    await other.put("key", b"result")

    async with one.flight("key") as value:
        assert value == b"result"


async def polls(redis_server: RedisServer) -> None:
    """Returns after repeated calls to Redis, which a caller makes while it waits for another's result."""
    with redis_server.client() as client:

        def calls() -> int:
            return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])

        before = calls()
        await until(lambda: calls() >= before + 3)


async def test_when_the_leading_replica_fails_the_other_takes_over(
    make_cache: MakeCache, redis_server: RedisServer
) -> None:
    one, other = make_cache(), make_cache()
    computation = Computation()
    computation.may_finish.set()

    async def fail() -> None:
        async with one.flight("key"):
            follower = asyncio.create_task(computation.through(other))
            await polls(redis_server)
            assert computation.started == 0
            followers.append(follower)
            raise ValueError("out of luck")

    followers: list[asyncio.Task[bytes]] = []
    with pytest.raises(ValueError, match="out of luck"):
        await fail()

    assert await followers[0] == b"result"
    assert computation.started == 1


async def test_when_the_leading_process_is_killed_a_follower_takes_over_after_the_lease(
    make_cache: MakeCache, redis_server: RedisServer, lease: Lease
) -> None:
    computation = Computation()
    computation.may_finish.set()
    with leader_in_another_process(redis_server.url, lease_seconds=3600) as process:
        process.kill()
        process.wait()
        follower = asyncio.create_task(computation.through(make_cache()))
        await polls(redis_server)
        assert computation.started == 0

        lease.pass_by(3600)

        await until(follower.done)
        assert await follower == b"result"
        assert computation.started == 1


async def test_a_leader_renews_its_lease_as_long_as_it_computes(
    make_cache: MakeCache, lease: Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert redis_cache.RENEWALS_PER_LEASE >= 2, "one may be late"
    monkeypatch.setattr(redis_cache, "RENEWALS_PER_LEASE", 3600 / 0.02)
    computation = Computation()
    leader = asyncio.create_task(computation.through(make_cache(lease_seconds=3600)))
    await computation.leading.wait()
    for _ in range(3):
        assert 0 < lease.seconds_left <= 3600
        lease.pass_by(1800)
        await until(lambda: lease.seconds_left > 1800)

    computation.may_finish.set()

    assert await leader == b"result"


async def test_recomputing_replaces_a_stored_result_and_is_shared_by_concurrent_callers(
    make_cache: MakeCache, redis_server: RedisServer
) -> None:
    replicas = [make_cache(), make_cache()]
    await replicas[0].put("key", b"old")
    computation = Computation(b"new")
    callers = [
        asyncio.create_task(computation.through(replica, recompute=True)) for replica in replicas for _ in range(3)
    ]
    await computation.leading.wait()
    await polls(redis_server)

    computation.may_finish.set()

    assert await asyncio.gather(*callers) == [b"new"] * 6
    assert computation.started == 1
    assert await replicas[1].get("key") == b"new"


# Redis slow, down, back


@contextmanager
def black_hole() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


@contextmanager
def outage(kind: str, server: RedisServer) -> Iterator[str]:
    """The URL of a Redis that is down, hangs, never answered, or refuses commands."""
    if kind == "never answers":
        with black_hole() as url:
            yield url
        return
    if kind == "stopped":
        server.stop()
    elif kind == "hangs":
        server.pause()
    elif kind == "out of memory":
        with server.client() as client:
            client.config_set("maxmemory", 1)
            client.config_set("maxmemory-policy", "noeviction")
    yield server.url
    if kind == "out of memory":
        with server.client() as client:
            client.config_set("maxmemory", 0)


OUTAGES = ["stopped", "hangs", "never answers", "out of memory"]


@pytest.mark.parametrize("kind", OUTAGES)
async def test_without_redis_every_operation_is_a_quick_miss_and_no_error(
    kind: str, make_cache: MakeCache, redis_server: RedisServer
) -> None:
    witness = Witness()
    with outage(kind, redis_server) as url:
        cache = make_cache(redis_url=url, timeout_seconds=0.25, observer=witness)

        # Less than it would take if each of them waited for Redis.
        async with asyncio.timeout(HANG_SECONDS):
            for _ in range(200):
                assert await cache.get("key") is None
                await cache.put("key", b"result")
                async with cache.flight("key") as value:
                    assert value is None
            stats = await cache.stats()
        await cache.close()

    assert not stats.available
    assert (stats.entries, stats.max_entries, stats.ttl_seconds) == (0, 100, 86_400)
    assert witness.outcomes == {CacheOutcome.MISS: 200, CacheOutcome.ERROR: 200}
    assert witness.availability == [False]


@pytest.mark.parametrize("kind", ["stopped", "hangs", "never answers"])
async def test_without_redis_clearing_is_refused_with_a_retry_delay(
    kind: str, make_cache: MakeCache, redis_server: RedisServer
) -> None:
    with outage(kind, redis_server) as url:
        cache = make_cache(redis_url=url, timeout_seconds=0.25)
        with pytest.raises(Unavailable) as refused:
            await cache.clear(ClearScope.ALL)
        await cache.close()

    assert refused.value.reason == "CACHE_UNAVAILABLE"
    assert refused.value.retry_after_seconds


@pytest.mark.parametrize("kind", ["stopped", "hangs", "out of memory"])
async def test_when_redis_is_back_it_is_used_again_and_gets_the_missed_counts(
    kind: str, make_cache: MakeCache, redis_server: RedisServer
) -> None:
    witness = Witness()
    cache = make_cache(timeout_seconds=3, observer=witness)
    await cache.stats()
    with capture_logs() as logs:
        with outage(kind, redis_server):
            for _ in range(3):
                assert await cache.get("key") is None
        redis_server.resume()
        redis_server.start()

        await eventually(lambda: _is_available(cache))

    await cache.put("key", b"result")
    assert await cache.get("key") == b"result"
    stats = await cache.stats()
    # A lookup that was sent to a hanging Redis is answered by it later, too late for the caller.
    assert (stats.hits, stats.misses) in {(1, 3), (1, 4)}
    assert witness.availability == [True, False, True]
    assert [line["event"] for line in logs] == ["Redis does not answer", "Redis answers again"]


async def _is_available(cache: ResultCache) -> bool:
    return (await cache.stats()).available


async def test_clearing_works_as_soon_as_redis_is_back(make_cache: MakeCache, redis_server: RedisServer) -> None:
    cache = make_cache()
    redis_server.stop()
    await cache.get("key")
    redis_server.start()

    assert (await cache.clear(ClearScope.ALL)).removed_entries == 0


async def test_a_redis_that_is_full_can_be_cleared(make_cache: MakeCache, redis_server: RedisServer) -> None:
    cache = make_cache()
    await cache.put("key", b"result")
    with outage("out of memory", redis_server):
        assert await cache.get("key") is None

        assert (await cache.clear(ClearScope.ALL)).removed_entries == 1


async def test_when_redis_fails_during_a_computation_all_callers_still_get_the_result(
    make_cache: MakeCache, redis_server: RedisServer
) -> None:
    cache = make_cache()
    computation = Computation()
    callers = [asyncio.create_task(computation.through(cache)) for _ in range(10)]
    await computation.leading.wait()
    await eventually(lambda: _are_misses(cache, 10))

    redis_server.stop()
    computation.may_finish.set()

    assert await asyncio.gather(*callers) == [b"result"] * 10
    assert computation.started == 1


async def test_a_follower_computes_for_itself_when_redis_fails(
    make_cache: MakeCache, redis_server: RedisServer
) -> None:
    computation = Computation()
    computation.may_finish.set()
    async with make_cache().flight("key"):
        follower = asyncio.create_task(computation.through(make_cache()))
        await polls(redis_server)

        redis_server.stop()

        assert await follower == b"result"


async def test_cancelled_lookups_do_not_break_the_connections_of_later_ones(make_cache: MakeCache) -> None:
    cache = make_cache()
    for number in range(10):
        await cache.put(str(number), b"%d" % number)

    for _ in range(20):
        lookups = [asyncio.create_task(cache.get(str(number))) for number in range(10)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for lookup in lookups[::2]:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)
        assert [await cache.get(str(number)) for number in range(10)] == [b"%d" % number for number in range(10)]


def test_a_namespace_that_could_match_other_keys_is_refused(redis_url: str) -> None:
    with pytest.raises(ValueError, match="namespace"):
        RedisResultCache(redis_url, namespace="a}:*", model="m")


@contextmanager
def leader_in_another_process(redis_url: str, *, lease_seconds: float) -> Iterator[subprocess.Popen[str]]:
    """A process that leads the flight for the key "key" and does not end by itself."""
    program = f"""
import asyncio
from careca.cache.redis_cache import RedisResultCache

async def lead():
    cache = RedisResultCache({redis_url!r}, namespace="transcriber", model="model@1", lease_seconds={lease_seconds})
    async with cache.flight("key"):
        print("leading", flush=True)
        await asyncio.Event().wait()

asyncio.run(lead())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "leading\n"
        try:
            yield process
        finally:
            process.kill()
