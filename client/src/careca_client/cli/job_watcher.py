"""Watches jobs until they end, and shows their progress."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from careca import types
from careca.errors import CarecaError
from careca.formatting import format_notice
from careca.types import Job, JobState, Segment, StageState
from careca_client.aio.client import AsyncClient
from careca_client.cli import concurrency
from careca_client.cli.errors import ExitCode, code_of_job, describe, describe_failures, describe_job, report_error
from careca_client.cli.output.display import Display
from careca_client.events import EventCallback

MAX_WATCHED = 16
"""Jobs watched at a time. The others follow as soon as one has ended."""

SegmentCallback: TypeAlias = Callable[[Segment, str], None]
"""Called with each finished segment and the name of its recording."""


class JobWatcher:
    """Watches several jobs at once, on one display."""

    def __init__(
        self,
        client: AsyncClient,
        display: Display,
        gateway: str,
        *,
        debug: bool = False,
        on_segment: SegmentCallback | None = None,
    ) -> None:
        self._client = client
        self._display = display
        self._gateway = gateway
        self._debug = debug
        self._on_segment = on_segment
        self._slots = asyncio.Semaphore(MAX_WATCHED)

    async def watch_all(self, jobs: Iterable[tuple[str, str]]) -> list[tuple[Job | None, ExitCode]]:
        """Watches all ``jobs``, given as pairs of job id and name to show, and prints what went wrong.

        Returns for each job its last known state, ``None`` if there is none, and the exit code.
        """

        async def watch(job: tuple[str, str], _: concurrency.Turn) -> tuple[Job | None, ExitCode]:
            return await self._watch(*job)

        return await concurrency.for_each(jobs, watch)

    async def _watch(self, job_id: str, name: str) -> tuple[Job | None, ExitCode]:
        job: Job | None = None
        try:
            async with self._slots:
                with self._display.progress(name) as on_event:
                    async for update in self._client.watch(job_id, on_event=on_event):
                        if isinstance(update, Job):
                            self._show(update, job, name, on_event)
                            job = update
                        elif self._on_segment is not None:
                            self._on_segment(update, name)
        except Exception as error:  # noqa: BLE001 -- the other jobs are still watched
            return job, report_error(error, name, self._display, gateway=self._gateway, debug=self._debug)
        if job is None:
            raise AssertionError("a watch without an error yields the job")
        if job.state is JobState.SUCCEEDED and not self._display.quiet:
            await self._show_notices(job, name)
        self._conclude(job, name)
        return job, code_of_job(job)

    def _show(self, job: Job, before: Job | None, name: str, on_event: EventCallback) -> None:
        if not job.state.ended and (before is None or before.state is not job.state):
            what = "waits for a gateway" if job.state is JobState.QUEUED else "is being worked on"
            self._display.info(f"{job.id} {what}", name)
        for progress in _progress_of(job):
            on_event(progress)

    async def _show_notices(self, job: Job, name: str) -> None:
        """Shows the notices of the result. The exit code does not change if they cannot be fetched."""
        try:
            async with self._slots:
                result = await self._client.job_result(job.id)
        except CarecaError as error:
            self._display.warning(f"its notices cannot be shown: {describe(error, self._gateway)}", name)
        else:
            for notice in result.notices:
                self._display.warning(format_notice(notice), name)

    def _conclude(self, job: Job, name: str) -> None:
        if job.state is not JobState.SUCCEEDED:
            self._display.error(describe_job(job), name)
            return
        for failure in describe_failures(job.stages):
            self._display.error(failure, name)
        retry = f", `careca jobs retry {job.id}` repeats what failed" if job.partial else ""
        self._display.info(f"done; `careca result {job.id}` prints it{retry}", name)


def _progress_of(job: Job) -> Iterator[types.Progress]:
    """Yields the progress of each stage that has begun and not failed."""
    for stage in job.stages:
        if stage.state in {StageState.RUNNING, StageState.SUCCEEDED}:
            yield types.Progress(stage.stage, 1.0 if stage.state is StageState.SUCCEEDED else stage.progress)
