"""Server-sent events about jobs. The streams end when the caller goes or the service stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from contextlib import aclosing, suppress
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from careca import types
from careca.errors import CarecaError
from careca.telemetry.logs import get_logger
from careca_client import JobUpdate
from careca_web.api.models.jobs import Job, Segment
from careca_web.api.router import api_router
from careca_web.events.job_watches import JobWatches, Subscription
from careca_web.http.requests import Draining
from careca_web.metrics import WebMetrics
from careca_web.sessions.callers import CallerClient, CallerIdentity

MAX_JOBS = 100
"""Most jobs in one stream."""

T = TypeVar("T")

_log = get_logger(__name__)


def routes(metrics: WebMetrics, draining: Draining) -> APIRouter:
    """Returns the endpoints for events."""
    router = api_router("", "events")
    watches = JobWatches()

    async def job_updates(
        job_id: str,
        client: CallerClient,
        last_event_id: Annotated[str, Header(description="The id of the last event that was received.")] = "",
    ) -> AsyncIterator[_Resumed]:
        """Begins a watch before the response, so that its errors have their status."""
        async with aclosing(client.updates(job_id, cursor=last_event_id)) as updates:
            yield _Resumed(await anext(updates), updates)

    async def job_states(
        client: CallerClient,
        caller: CallerIdentity,
        job: Annotated[list[str], Query(min_length=1, max_length=MAX_JOBS, description="Ids of jobs.")],
    ) -> AsyncIterator[_Subscribed]:
        """Subscribes and waits for the first state before the response, so that errors have their status."""
        with watches.subscribe(caller, client, job) as subscription:
            yield _Subscribed(await subscription.changes(), subscription)

    @router.get("/jobs/{job_id}/events", response_class=EventSourceResponse)
    async def follow_job(resumed: _Resumed = Depends(job_updates)) -> AsyncIterator[ServerSentEvent]:
        """Sends `job` events with the job now and at each change, and `segment` events as the text is recognised.

        After the job's end an `end` event follows, and the stream closes. After a broken connection the header
        Last-Event-ID continues without losing or repeating a segment, as browsers do by themselves.
        """
        with metrics.event_stream_open(), suppress(_Interrupted):
            update: JobUpdate | None = resumed.first
            while update:
                yield _event_of(update)
                update = await _before_drain(anext(resumed.rest, None), draining)
            yield ServerSentEvent(event="end", raw_data="{}")

    @router.get("/events", response_class=EventSourceResponse)
    async def follow_jobs(subscribed: _Subscribed = Depends(job_states)) -> AsyncIterator[ServerSentEvent]:
        """Sends `job` events of up to 100 jobs: each job as it is now, and at each change until it has ended.

        A `gone` event follows if a job does not exist or is deleted. The stream never ends by itself.
        """
        with metrics.event_stream_open(), suppress(_Interrupted):
            changes = subscribed.first
            while True:
                for job_id, job in changes.items():
                    yield _state_event(job_id, job)
                changes = await _before_drain(subscribed.rest.changes(), draining)

    return router


class _Resumed:
    def __init__(self, first: JobUpdate, rest: AsyncGenerator[JobUpdate, None]) -> None:
        self.first = first
        self.rest = rest


class _Subscribed:
    def __init__(self, first: Mapping[str, types.Job | None], rest: Subscription) -> None:
        self.first = first
        self.rest = rest


class _Interrupted(Exception):
    """A stream ends early: the service stops, or the gateway fails. The browser then connects again."""


async def _before_drain(awaited: Awaitable[T], draining: Draining) -> T:
    """Returns the result. Raises ``_Interrupted``."""
    waiting = asyncio.ensure_future(awaited)
    stopping = asyncio.create_task(draining.wait())
    try:
        await asyncio.wait((waiting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise _Interrupted
        return waiting.result()
    except CarecaError as error:
        _log.warning("an event stream ends early", reason=error.reason, error=error.message)
        raise _Interrupted from error
    finally:
        stopping.cancel()
        waiting.cancel()
        await asyncio.wait((waiting, stopping))


def _event_of(update: JobUpdate) -> ServerSentEvent:
    if isinstance(update.content, types.Job):
        text, kind = Job.from_value(update.content).model_dump_json(), "job"
    else:
        text, kind = Segment.from_value(update.content).model_dump_json(), "segment"
    return ServerSentEvent(event=kind, raw_data=text, id=update.cursor)


def _state_event(job_id: str, job: types.Job | None) -> ServerSentEvent:
    if job is None:
        return ServerSentEvent(event="gone", data={"id": job_id})
    return ServerSentEvent(event="job", raw_data=Job.from_value(job).model_dump_json())
