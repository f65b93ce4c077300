"""The operators' calls over HTTP."""

from __future__ import annotations

import pytest

from support.stack import Stack
from support.tokens import Tokens
from support.web import Web, ended, problem, submit

STAGES = ["transcription", "diarization"]


@pytest.mark.parametrize("stage", STAGES)
async def test_the_statistics_of_a_cache_are_live(web: Web, stage: str) -> None:
    before = (await web.http.get(f"/api/admin/{stage}/stats")).json()
    for _ in range(2):
        await ended(web, await submit(web))
    after = (await web.http.get(f"/api/admin/{stage}/stats")).json()

    assert (before["hit_rate"], before["entries"], before["models_loaded"]) == (None, 0, True)
    assert (after["hit_rate"], after["hits"], after["misses"], after["entries"]) == (0.5, 1, 1, 1)
    assert after["size_bytes"] > 0
    assert after["oldest_entry"] == after["newest_entry"]
    assert (after["max_entries"], after["ttl_seconds"], after["evictions"], after["expirations"]) == (100, 86400, 0, 0)
    assert after["memory"]["rss_bytes"] > 0


@pytest.mark.parametrize("stage", STAGES)
async def test_clearing_a_cache_says_what_was_removed(web: Web, stage: str) -> None:
    await ended(web, await submit(web))
    path = f"/api/admin/{stage}/cache/clear"
    expired = [
        (await web.http.post(path, params={"expired_only": True})).json(),
        (await web.http.post(path, json={"expired_only": True})).json(),
    ]
    everything = (await web.http.post(path)).json()
    again = (await web.http.post(path, json={})).json()

    assert [(each["removed_entries"], each["memory"]["models_unloaded"]) for each in expired] == [(0, False)] * 2
    assert (everything["removed_entries"], everything["memory"]["models_unloaded"]) == (1, True)
    assert everything["removed_bytes"] > 0
    assert everything["memory"]["after"]["rss_bytes"] > 0
    assert again["removed_entries"] == 0


async def test_all_services_and_replicas_are_shown(web: Web, stack: Stack) -> None:
    await ended(web, await submit(web))
    stats = (await web.http.get("/api/admin/stats")).json()
    replicas = (await web.http.get("/api/admin/replicas")).json()["replicas"]

    assert [service["stage"] for service in stats["services"]] == STAGES
    for service in stats["services"]:
        assert (service["error"], service["device"], service["in_flight"], service["waiting"]) == ("", "cpu", 0, 0)
        assert service["cache"]["entries"] == 1
    assert stats["gateway"]["stored_recordings"] >= 1
    assert stats["gateway"]["memory"]["rss_bytes"] > 0
    assert [(each["stage"], each["address"]) for each in replicas] == [
        (stage, f"127.0.0.1:{service.port}") for stage, service in zip(STAGES, stack.model_services, strict=True)
    ]


async def test_a_service_that_is_away_is_shown_with_the_reason(web: Web, stack: Stack) -> None:
    await stack.diarizer.stop()
    stats = (await web.http.get("/api/admin/stats")).json()
    away = await web.http.get("/api/admin/diarization/stats")

    assert [bool(service["error"]) for service in stats["services"]] == [False, True]
    assert stats["services"][1]["cache"] is None
    assert problem(away)[0] == 503
    assert int(away.headers["retry-after"]) >= 1


async def test_memory_is_released_of_some_or_all_services(web: Web) -> None:
    everything = (await web.http.post("/api/admin/memory/release")).json()
    one = (await web.http.post("/api/admin/memory/release", json={"stages": ["diarization"]})).json()

    assert [row["stage"] for row in everything["services"]] == STAGES
    assert [row["stage"] for row in one["services"]] == ["diarization"]
    assert one["gateway"]["after"]["rss_bytes"] > 0


@pytest.mark.parametrize("body", [{"stages": ["decode"]}, {"stages": "all"}, {"colour": "red"}], ids=str)
async def test_a_bad_release_is_refused(web: Web, body: dict[str, object]) -> None:
    assert problem(await web.http.post("/api/admin/memory/release", json=body))[0] == 422


async def test_only_administrators_operate(guarded: Web, tokens: Tokens) -> None:
    async with guarded.as_caller(tokens.of["ana"]) as ana, guarded.as_caller(tokens.of["ops"]) as ops:
        for method, path in (
            ("GET", "stats"),
            ("GET", "replicas"),
            ("GET", "diarization/stats"),
            ("POST", "transcription/cache/clear"),
            ("POST", "diarization/cache/clear?expired_only=true"),
            ("POST", "memory/release"),
        ):
            assert problem(await ana.request(method, f"/api/admin/{path}"))[0] == 403
            assert problem(await guarded.http.request(method, f"/api/admin/{path}"))[0] == 401
            assert (await ops.request(method, f"/api/admin/{path}")).status_code == 200
