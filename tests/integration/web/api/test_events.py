"""Events about jobs: nothing is lost or doubled when a stream is resumed, and streams end with the service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from support.samples import sample_value
from support.stack import Stack
from support.tokens import Tokens
from support.waiting import HANG_SECONDS, until
from support.web import Web, ended, problem, submit

Event = tuple[str, str, Any]


@asynccontextmanager
async def stream(
    client: httpx2.AsyncClient, path: str, headers: Mapping[str, str] | None = None
) -> AsyncIterator[AsyncIterator[Event]]:
    """The events of a stream: kind, id and data."""
    async with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield _events(response)


async def _events(response: httpx2.Response) -> AsyncIterator[Event]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line == "" and "data" in fields:
            yield fields.get("event", ""), fields.get("id", ""), json.loads(fields["data"])
        if line == "":
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


async def everything(web: Web, path: str, **headers: str) -> list[Event]:
    async with asyncio.timeout(HANG_SECONDS), stream(web.http, path, headers) as events:
        return [event async for event in events]


async def test_a_job_is_followed_to_its_end(web: Web, stack: Stack) -> None:
    stack.transcriber.engine.may_go_on.clear()
    job = await submit(web)
    async with stream(web.http, f"/api/jobs/{job['id']}/events") as events:
        seen = [await anext(events)]
        stack.transcriber.engine.may_go_on.set()
        seen += [event async for event in events]

    assert seen[0][2]["id"] == job["id"]
    assert seen[-1] == ("end", "", {})
    assert seen[-2][2]["state"] == "succeeded"
    segments = [data for kind, _, data in seen if kind == "segment"]
    assert [segment["text"] for segment in segments] == ["hello there", "good morning"]
    assert segments[0]["words"][0] == {"text": "hello", "start": 0.0, "end": 0.5, "probability": 0.9}
    assert all(cursor for kind, cursor, _ in seen if kind != "end")


async def test_a_resumed_stream_loses_and_repeats_no_segment(web: Web) -> None:
    job = await ended(web, await submit(web))
    path = f"/api/jobs/{job['id']}/events"
    seen = await everything(web, path)
    segments = [event for event in seen if event[0] == "segment"]
    rest = [await everything(web, path, **{"Last-Event-ID": cursor}) for _, cursor, _ in segments]

    assert len(segments) == 2
    assert [[event for event in each if event[0] == "segment"] for each in rest] == [segments[1:], []]
    assert all(each[0][0] == "job" and each[-1][0] == "end" for each in rest)


async def test_what_cannot_be_followed_is_refused(web: Web) -> None:
    job = await ended(web, await submit(web))
    unknown = await web.http.get("/api/jobs/none/events")
    cursor = await web.http.get(f"/api/jobs/{job['id']}/events", headers={"Last-Event-ID": "elsewhere"})
    nothing = await web.http.get("/api/events")
    many = await web.http.get("/api/events", params={"job": ["x"] * 101})

    assert problem(unknown)[0] == 404
    assert problem(cursor)[0] == 400
    assert problem(nothing)[0::2] == problem(many)[0::2] == (422, "job")


async def test_several_jobs_share_a_stream(web: Web, stack: Stack) -> None:
    stack.transcriber.engine.may_go_on.clear()
    jobs = [await submit(web) for _ in range(2)]
    path = f"/api/events?job={jobs[0]['id']}&job={jobs[1]['id']}&job=none"
    states: dict[str, str] = {}
    async with stream(web.http, path) as events:
        while len(states) < 3:
            kind, _, data = await anext(events)
            states[data["id"]] = data.get("state", kind)
        assert states["none"] == "gone"
        await web.http.delete(f"/api/jobs/{jobs[1]['id']}")
        stack.transcriber.engine.may_go_on.set()
        while states[jobs[0]["id"]] != "succeeded" or states[jobs[1]["id"]] != "gone":
            kind, _, data = await anext(events)
            states[data["id"]] = data.get("state", kind)


@pytest.mark.parametrize("path", ["/api/jobs/{}/events", "/api/events?job={}"])
async def test_streams_end_when_the_service_stops(web: Web, stack: Stack, path: str) -> None:
    stack.transcriber.engine.may_go_on.clear()
    job = await submit(web)
    async with asyncio.timeout(HANG_SECONDS), stream(web.http, path.format(job["id"])) as events:
        await anext(events)
        web.service.draining.begin()
        assert [event[0] async for event in events if event[0] != "job"] == []


@pytest.mark.parametrize("path", ["/api/jobs/{}/events", "/api/events?job={}"])
async def test_a_caller_who_leaves_ends_the_stream(web: Web, stack: Stack, path: str) -> None:
    stack.transcriber.engine.may_go_on.clear()
    job = await submit(web)
    async with stream(web.http, path.format(job["id"])) as events:
        await anext(events)
        assert _streams(web) == 1
    await until(lambda: _streams(web) == 0)


async def test_an_idle_stream_sends_comments(web: Web, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.05)
    stack.transcriber.engine.may_go_on.clear()
    job = await submit(web)
    async with web.http.stream("GET", f"/api/events?job={job['id']}") as response:
        async for line in response.aiter_lines():
            if line == ": ping":
                return
    raise AssertionError("the stream ended without a comment")


async def test_nobody_follows_the_jobs_of_others(guarded: Web, tokens: Tokens, guarded_stack: Stack) -> None:
    guarded_stack.transcriber.engine.may_go_on.clear()
    async with guarded.as_caller(tokens.of["ana"]) as ana, guarded.as_caller(tokens.of["bo"]) as bo:
        job = (await ana.post("/api/jobs", files={"file": b"RIFF"})).json()
        async with (
            stream(ana, f"/api/events?job={job['id']}") as hers,
            stream(bo, f"/api/events?job={job['id']}") as his,
        ):
            assert (await anext(hers))[0] == "job"
            assert await anext(his) == ("gone", "", {"id": job["id"]})
        assert problem(await bo.get(f"/api/jobs/{job['id']}/events"))[0] == 404
        for path in (f"/api/events?job={job['id']}", f"/api/jobs/{job['id']}/events"):
            assert problem(await guarded.http.get(path))[:2] == (401, "NO_TOKEN")


def _streams(web: Web) -> float | None:
    return sample_value(web.service.metrics.registry, "careca_http_event_streams")
