"""The stack under measurement: a real gateway and web service, and model services that have no models."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import psutil

from bench.common import audio
from bench.common.harness import announce
from bench.common.report import Report
from careca.types import SAMPLE_BYTES, SAMPLE_RATE, Job, JobState
from careca_client import AsyncClient
from local_stack import TIMED_SERVICE, LocalStack, Part

PATIENCE_SECONDS = 900.0
SETTLE_SECONDS = 2.0
"""Pause before memory is read: the answer may arrive a moment before the process is at rest."""

RSS_LIMIT_BYTES = 150_000_000


class TalkingStack(LocalStack):
    """Model services take a set time for each task, and find people who talk all the time."""

    def service_environment(self, name: str) -> dict[str, str]:
        """As ever, with temporary files where they can be counted."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        return {**super().service_environment(name), "TMPDIR": str(self.temporary), "CARECA_TIMED_TALK": "1"}

    def service(self, name: str, service: str, port: int, **settings: str) -> Part:
        """The part that runs one of the services."""
        part = super().service(name, service, port, **settings)
        is_model = service in ("transcriber", "diarizer")
        return replace(part, command=[sys.executable, TIMED_SERVICE, service]) if is_model else part

    @property
    def temporary(self) -> Path:
        """The folder for temporary files of all services."""
        return self.root / "tmp"

    def process(self, name: str) -> psutil.Process:
        """The process of a part, as it runs now."""
        return psutil.Process(self.pids[name])

    def part(self, name: str) -> Part:
        """The part of that name."""
        return next(part for part in self.parts() if part.name == name)


@asynccontextmanager
async def talking_stack(task_seconds: float) -> AsyncIterator[tuple[TalkingStack, AsyncClient, httpx2.AsyncClient]]:
    """Starts a stack whose tasks take so long, with a client for gRPC and one for HTTP."""
    folder = tempfile.TemporaryDirectory(prefix="careca-web-")
    with folder as name:
        environment = {"CARECA_TIMED_SECONDS": str(task_seconds), "CARECA_LOG_FORMAT": "json"}
        with TalkingStack(Path(name), web=True, environment=environment) as stack:
            async with AsyncClient(stack.gateway_target) as client, http_client(stack) as http:
                yield stack, client, http


def http_client(stack: LocalStack) -> httpx2.AsyncClient:
    """An HTTP client of the web service."""
    return httpx2.AsyncClient(base_url=stack.web_url, timeout=PATIENCE_SECONDS, trust_env=False)


async def finished_job(client: AsyncClient, folder: Path, seconds: float, name: str = "meeting.wav") -> Job:
    """Submits a recording of so many seconds and waits for its result."""
    began, path = time.monotonic(), folder / name
    write_recording(path, seconds)
    job = await client.submit(path, timeout=PATIENCE_SECONDS)
    async for event in client.watch(job.id, timeout=PATIENCE_SECONDS):
        if isinstance(event, Job):
            job = event
    if job.state is not JobState.SUCCEEDED or job.partial:
        raise RuntimeError(f"the job about {seconds:g} s ended as {job.state}: {job.error_message}")
    announce(f"a recording of {seconds:g} s is done after {time.monotonic() - began:.0f} s")
    return job


def write_recording(path: Path, seconds: float) -> None:
    """Writes a recording of so many seconds, sparse: the model services do not listen to it."""
    audio.write_silence(path, 44 + round(seconds * SAMPLE_RATE) * SAMPLE_BYTES)


def report_rss(report: Report, process: psutil.Process, when: str) -> None:
    """Adds a row about the memory of the web service now."""
    rss = process.memory_info().rss
    what, limit = f"RSS of the web service, {when}", f"{RSS_LIMIT_BYTES / 1e6:.0f} MB"
    report.limit(what, limit, f"{rss / 1e6:.0f} MB", met=rss < RSS_LIMIT_BYTES)
