"""Operators' calls reach all replicas of a service, over real sockets and with a real Redis."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from careca.errors import Unavailable
from careca.rpc.statuses import translated_errors
from careca.types import TranscriptionOptions
from careca.v1 import admin_pb2, audio_pb2
from careca_gateway.backends import Replicas, TranscriberClient
from careca_gateway.request import Deadline
from careca_gateway.storage.held_recording import StoredAudio
from support.fakes import FakeTranscriberEngine, digest_of, pcm
from support.redis_server import RedisServer, free_port
from support.stack import Caller, ModelService, Stack

ALL = admin_pb2.ClearCacheRequest(scope=admin_pb2.CLEAR_SCOPE_ALL)
EXPIRED = admin_pb2.ClearCacheRequest(scope=admin_pb2.CLEAR_SCOPE_EXPIRED)


@pytest.fixture
async def second(redis_server: RedisServer) -> AsyncIterator[ModelService]:
    """Another transcriber."""
    service = ModelService(FakeTranscriberEngine())
    await service.start(redis_server.url)
    yield service
    await service.stop()


@pytest.fixture
async def stack(tmp_path: Path, redis_server: RedisServer, second: ModelService) -> AsyncIterator[Stack]:
    """Two transcribers and a diarizer."""
    first = ModelService(FakeTranscriberEngine())
    await first.start(redis_server.url)
    await first.stop()  # its port is known now
    addresses = ",".join(address_of(service) for service in (first, second))
    settings = {"transcriber_target": f"ipv4:{addresses}"}
    async with Stack(tmp_path, redis_server.url, transcriber=first, gateway_settings=settings) as stack:
        yield stack


@pytest.fixture
async def caller(stack: Stack) -> AsyncIterator[Caller]:
    async with stack.caller() as caller:
        yield caller


def address_of(service: ModelService) -> str:
    return f"127.0.0.1:{service.port}"


async def compute(service: ModelService, folder: Path, seed: int) -> None:
    """Computes a result on this replica, which stores it in the cache."""
    data = pcm(seed=seed)
    path = folder / f"{seed}.pcm"
    path.write_bytes(data)
    async with Replicas(address_of(service)) as replicas:
        audio, deadline = StoredAudio(digest_of(data), path), Deadline.after(60.0)
        running = TranscriberClient(replicas).run(audio, TranscriptionOptions(), skip_cache=False, deadline=deadline)
        async for _ in running:
            pass


def loaded(*services: ModelService) -> list[bool]:
    return [service.engine.loaded for service in services]


async def test_releasing_memory_unloads_the_models_of_every_replica(
    stack: Stack, second: ModelService, caller: Caller
) -> None:
    assert loaded(stack.transcriber, second) == [True, True]

    released = await caller.admin.ReleaseMemory(admin_pb2.ReleaseMemoryRequest())

    assert loaded(stack.transcriber, second, stack.diarizer) == [False] * 3
    transcribers, diarizer = (entry.memory for entry in released.stages)
    assert transcribers.models_unloaded
    assert transcribers.before.rss_bytes > 1.5 * diarizer.before.rss_bytes, "that of two processes like this one"


async def test_clearing_everything_counts_shared_entries_once_and_unloads_every_replica(
    stack: Stack, second: ModelService, caller: Caller, tmp_path: Path
) -> None:
    await compute(stack.transcriber, tmp_path, 1)
    await compute(second, tmp_path, 2)

    cleared = await caller.admin.ClearCache(ALL)

    transcribers = cleared.stages[0].clearance
    assert transcribers.removed_entries == 2
    assert transcribers.memory.models_unloaded
    assert loaded(stack.transcriber, second) == [False, False]


async def test_clearing_expired_entries_keeps_all_models_loaded(
    stack: Stack, second: ModelService, caller: Caller, tmp_path: Path
) -> None:
    await compute(second, tmp_path, 2)

    cleared = await caller.admin.ClearCache(EXPIRED)

    assert [entry.clearance.removed_entries for entry in cleared.stages] == [0, 0]
    assert loaded(stack.transcriber, second) == [True, True]


async def test_an_unavailable_replica_delays_nothing(stack: Stack, second: ModelService, caller: Caller) -> None:
    await second.stop()

    released = await caller.admin.ReleaseMemory(admin_pb2.ReleaseMemoryRequest(stages=[audio_pb2.STAGE_TRANSCRIBE]))

    assert [entry.memory.models_unloaded for entry in released.stages] == [True]
    assert loaded(stack.transcriber) == [False]


async def test_errors_name_replicas_that_succeeded_and_that_failed(stack: Stack, second: ModelService) -> None:
    await stack.stop_gateway()
    await second.stop()
    await second.start(f"redis://127.0.0.1:{free_port()}/0")
    await stack.start_gateway()

    done = f"cleared: transcribe at {address_of(stack.transcriber)}, diarize"
    failed = f"; transcribe at {address_of(second)} failed: The cache of the transcriber cannot be cleared"
    async with stack.caller() as caller:
        with pytest.raises(Unavailable, match=done + failed), translated_errors():
            await caller.admin.ClearCache(ALL)

    assert loaded(stack.transcriber) == [False]


async def test_statistics_contain_each_replica_and_the_sums(
    stack: Stack, second: ModelService, caller: Caller, tmp_path: Path
) -> None:
    await compute(second, tmp_path, 2)

    transcriber, diarizer = (await caller.admin.Stats(admin_pb2.StatsRequest())).stages

    each = {replica.address: replica.stats for replica in transcriber.replicas}
    assert set(each) == {address_of(stack.transcriber), address_of(second)}
    assert transcriber.stats.memory.rss_bytes == sum(stats.memory.rss_bytes for stats in each.values())
    assert transcriber.stats.cache.entries == 1
    assert transcriber.stats.model == second.engine.model
    assert [replica.stats for replica in diarizer.replicas] == [diarizer.stats]


async def test_statistics_say_which_replica_cannot_be_reached(
    stack: Stack, second: ModelService, caller: Caller
) -> None:
    await second.stop()

    transcriber, _ = (await caller.admin.Stats(admin_pb2.StatsRequest())).stages

    each = {replica.address: replica for replica in transcriber.replicas}
    assert each[address_of(second)].error_message
    assert not each[address_of(second)].HasField("stats")
    assert transcriber.stats == each[address_of(stack.transcriber)].stats
    assert not transcriber.error_message
