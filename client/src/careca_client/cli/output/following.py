"""How people follow jobs to their end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeAlias

from careca import types
from careca.errors import CarecaError
from careca.formatting import format_notice
from careca.types import Job, JobState, Segment, StageState
from careca_client.aio.client import AsyncClient
from careca_client.cli.errors import ExitCode, code_of_job, describe, describe_job, failures, report_error
from careca_client.cli.output import terminal
from careca_client.cli.output.progress import Display
from careca_client.events import EventCallback

WATCHED_AT_ONCE = 16
"""Jobs watched at a time; each of the others as soon as one has ended."""

SegmentCallback: TypeAlias = Callable[[Segment, str], None]
"""Called with each segment as it is finished, and the name of its recording."""


class Follower:
    """Watches several jobs at once, on one display."""

    def __init__(
        self, display: Display, gateway: str, *, debug: bool = False, on_segment: SegmentCallback | None = None
    ) -> None:
        self._display = display
        self._gateway = gateway
        self._debug = debug
        self._on_segment = on_segment
        self._places = asyncio.Semaphore(WATCHED_AT_ONCE)

    async def follow(self, client: AsyncClient, job_id: str, name: str) -> tuple[Job | None, ExitCode]:
        """The job, shown under ``name``, as it was last heard of, and the exit code that it or the watching comes to.

        What went wrong is said.
        """
        job: Job | None = None
        try:
            async with self._places:
                with self._display.watching(name) as on_event:
                    async for happened in client.watch(job_id, on_event=on_event):
                        if isinstance(happened, Job):
                            self._tell(happened, job, name, on_event)
                            job = happened
                        elif self._on_segment is not None:
                            self._on_segment(happened, name)
        except Exception as error:  # noqa: BLE001 -- the other jobs are still watched
            code = report_error(error, name, self._display.console, gateway=self._gateway, debug=self._debug)
            return job, code
        if job is None:
            raise AssertionError("a watch that has ended well has told of its job")
        if job.state is JobState.SUCCEEDED and not self._display.quiet:
            await self._tell_notices(client, job, name)
        return job, self._conclude(job, name)

    def _tell(self, job: Job, before: Job | None, name: str, on_event: EventCallback) -> None:
        if not job.state.ended and (before is None or before.state is not job.state):
            waits = job.state is JobState.QUEUED
            self._display.say(f"{job.id} {'waits for a gateway' if waits else 'is being worked on'}", name)
        for progress in _progress_of(job):
            on_event(progress)

    async def _tell_notices(self, client: AsyncClient, job: Job, name: str) -> None:
        """Says what a person should know about the recording. That it cannot be found out changes no exit code."""
        try:
            async with self._places:
                result = await client.job_result(job.id)
        except CarecaError as error:
            self._display.warn(f"its notices cannot be shown: {describe(error, self._gateway)}", name)
        else:
            for notice in result.notices:
                self._display.warn(format_notice(notice), name)

    def _conclude(self, job: Job, name: str) -> ExitCode:
        if job.state is not JobState.SUCCEEDED:
            terminal.complain(describe_job(job), subject=name, console=self._display.console)
            return code_of_job(job)
        for failure in failures(job.stages):
            terminal.complain(failure, subject=name, console=self._display.console)
        again = f", `careca jobs retry {job.id}` tries again what failed" if job.partial else ""
        self._display.say(f"done; `careca result {job.id}` prints it{again}", name)
        return code_of_job(job)


def _progress_of(job: Job) -> Iterator[types.Progress]:
    """How far each stage has come that has begun."""
    for stage in job.stages:
        if stage.state in {StageState.RUNNING, StageState.SUCCEEDED}:
            yield types.Progress(stage.stage, 1.0 if stage.state is StageState.SUCCEEDED else stage.progress)
