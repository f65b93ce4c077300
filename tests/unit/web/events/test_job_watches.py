"""Watches that several streams share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from careca.errors import InternalError, NotFound, Unauthenticated
from careca.types import Digest, Job, JobPriority, JobState
from careca_client import AsyncClient
from careca_web.events.job_watches import JobWatches


def job(state: JobState = JobState.QUEUED) -> Job:
    return Job("a", state, Digest("ab" * 32, 1), "call.wav", "ana", JobPriority.BATCH, "1", 0.0)


class Gateway:
    """Watches follow a script: states, or an error."""

    def __init__(self) -> None:
        self.script: asyncio.Queue[Job | Exception | None] = asyncio.Queue()
        self.watches = 0
        self.open = 0

    async def watch(self, job_id: str) -> AsyncIterator[Job]:
        self.watches += 1
        self.open += 1
        try:
            while (update := await self.script.get()) is not None:
                if isinstance(update, Exception):
                    raise update
                yield update
        finally:
            self.open -= 1

    @property
    def client(self) -> AsyncClient:
        return cast("AsyncClient", self)


async def test_streams_of_one_caller_share_a_watch_and_each_gets_the_latest_state() -> None:
    gateway, watches = Gateway(), JobWatches()
    with watches.subscribe("ana", gateway.client, ["a"]) as first:
        gateway.script.put_nowait(job())
        assert await first.changes() == {"a": job()}
        with watches.subscribe("ana", gateway.client, ["a", "a"]) as second:
            assert await second.changes() == {"a": job()}
            gateway.script.put_nowait(job(JobState.RUNNING))
            gateway.script.put_nowait(job(JobState.SUCCEEDED))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert await first.changes() == await second.changes() == {"a": job(JobState.SUCCEEDED)}
            assert (gateway.watches, len(watches)) == (1, 1)
        assert gateway.open == 1
    await asyncio.sleep(0)
    assert (gateway.open, len(watches)) == (0, 0)


async def test_callers_share_nothing() -> None:
    gateway, watches = Gateway(), JobWatches()
    with watches.subscribe("ana", gateway.client, ["a"]), watches.subscribe("bo", gateway.client, ["a"]):
        await asyncio.sleep(0)
        assert gateway.watches == 2


async def test_a_job_that_has_ended_is_watched_anew_for_the_next_stream() -> None:
    gateway, watches = Gateway(), JobWatches()
    with watches.subscribe("ana", gateway.client, ["a"]) as first:
        gateway.script.put_nowait(job(JobState.FAILED))
        gateway.script.put_nowait(None)
        assert await first.changes() == {"a": job(JobState.FAILED)}
        await asyncio.sleep(0)
        with watches.subscribe("ana", gateway.client, ["a"]) as second:
            gateway.script.put_nowait(job())
            assert await second.changes() == {"a": job()}
    assert len(watches) == 0


async def test_a_deleted_job_is_reported_and_an_error_ends_the_stream() -> None:
    gateway, watches = Gateway(), JobWatches()
    errors: list[Any] = [NotFound("deleted"), Unauthenticated("the token was revoked")]
    for error in errors:
        gateway.script.put_nowait(error)
    with watches.subscribe("ana", gateway.client, ["a", "b"]) as subscription:
        changes = await subscription.changes()
        assert list(changes.values()) == [None]
        for _ in range(2):
            with pytest.raises(Unauthenticated):
                await subscription.changes()


async def test_a_bug_is_logged_and_ends_the_stream() -> None:
    gateway, watches = Gateway(), JobWatches()
    with (
        watches.subscribe("ana", gateway.client, ["a"]) as first,
        watches.subscribe("ana", gateway.client, ["a"]) as second,
        capture_logs() as logged,
    ):
        gateway.script.put_nowait(KeyError("nobody expects this"))
        for subscription in (first, second):
            with pytest.raises(InternalError):
                await subscription.changes()
    assert [(line["log_level"], line["job_id"], line["exc_info"]) for line in logged] == [("error", "a", True)]
