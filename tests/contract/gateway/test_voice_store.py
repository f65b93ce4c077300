"""The guarantees of saved voices, tested on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from careca.errors import NotFound, Overloaded, PreconditionFailed, Unavailable
from careca.types import SavedVoice, Voice
from careca_gateway.voices.store import MAX_VOICES, StoredVoice, VoiceStore
from support.redis_server import RedisServer


def stored(name: str, *embedding: float, model: str = "voices@1", job_id: str = "") -> StoredVoice:
    voice = Voice(embedding or (0.5, -0.25), model)
    return StoredVoice(SavedVoice(name, model, 1_700_000_000.25, job_id), voice)


async def names(store: VoiceStore, submitter: str = "ann") -> list[str]:
    return [each.about.name for each in await store.list(submitter)]


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[VoiceStore]:
    store = VoiceStore(redis_server.url, timeout_seconds=20)  # patient: a busy machine is no outage
    yield store
    await store.close()


async def test_a_voice_comes_back_as_it_was(store: VoiceStore) -> None:
    saved = stored("Anabel Sá", 0.5, -0.25, 0.125, job_id="0123abc")

    await store.save("ann", saved)

    assert await store.list("ann") == [saved]


async def test_voices_are_sorted_by_name_whatever_its_case(store: VoiceStore) -> None:
    for name in ("bob", "Ann", "Cy", "ann b"):
        await store.save("ann", stored(name))

    assert await names(store) == ["Ann", "ann b", "bob", "Cy"]


@pytest.mark.parametrize("same", ["Ann B", "Ann_B"])
async def test_saving_the_same_name_replaces_the_voice(store: VoiceStore, same: str) -> None:
    await store.save("ann", stored("Ann B", 1.0))
    await store.save("ann", stored(same, 0.5))

    (voice,) = await store.list("ann")
    assert (voice.about.name, voice.voice.embedding) == (same, (0.5,))


async def test_voices_belong_to_one_submitter(store: VoiceStore) -> None:
    await store.save("ann", stored("Eve"))

    assert await store.list("bob") == []
    with pytest.raises(NotFound):
        await store.delete("bob", "Eve")
    assert await names(store) == ["Eve"]


async def test_a_deleted_voice_is_gone_and_leaves_nothing(store: VoiceStore, redis_server: RedisServer) -> None:
    await store.save("ann", stored("Eve A"))

    await store.delete("ann", "Eve_A")

    assert await store.list("ann") == []
    with redis_server.client() as client:
        assert client.keys("*") == []
    with pytest.raises(NotFound) as refused:
        await store.delete("ann", "Eve A")
    assert refused.value.reason == "VOICE_NOT_FOUND"


async def test_a_submitter_has_a_limited_number_of_voices_even_at_the_same_time(store: VoiceStore) -> None:
    saving = (store.save("ann", stored(f"voice {number}")) for number in range(MAX_VOICES + 10))

    outcomes = await asyncio.gather(*saving, return_exceptions=True)

    refused = [outcome for outcome in outcomes if outcome is not None]
    assert len(refused) == 10
    assert all(isinstance(each, PreconditionFailed) and each.reason == "TOO_MANY_VOICES" for each in refused)
    kept = await names(store)
    assert len(kept) == MAX_VOICES
    await store.save("ann", stored(kept[0], 1.0))
    await store.save("bob", stored("another"))
    assert len(await store.list("ann")) == MAX_VOICES


async def test_a_full_redis_refuses_voices_and_lets_them_be_deleted(
    store: VoiceStore, redis_server: RedisServer
) -> None:
    await store.save("ann", stored("Eve"))
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(Overloaded) as refused:
                await store.save("ann", stored("Bob"))
            assert await names(store) == ["Eve"]
            await store.delete("ann", "Eve")
        finally:
            client.config_set("maxmemory", 0)
    assert refused.value.reason == "JOBS_FULL"


async def test_a_voice_survives_a_restart_of_redis(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    store = VoiceStore(server.url, timeout_seconds=20)
    try:
        await store.save("ann", stored("Eve"))
        server.stop()
        with pytest.raises(Unavailable) as refused:
            await store.list("ann")
        assert refused.value.reason == "JOBS_UNAVAILABLE"
        server.start()
        assert await names(store) == ["Eve"]
    finally:
        await store.close()
        server.stop()
