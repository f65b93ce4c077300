"""What callers ask for: calls and jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from careca.errors import CarecaError, InternalError
from careca.types import Job, JobState
from careca_client import AsyncClient


@dataclass
class Callers:
    """A client of all gateways, and recordings."""

    client: AsyncClient
    clips: list[Path]
    jobs: list[Job] = field(default_factory=list)
    """Jobs that were submitted and have not ended."""
    patience_seconds: float = 120.0

    async def transcribe(self, number: int) -> None:
        """Asks in one call. Raises ``CarecaError`` where there is no whole result."""
        clip = self.clips[number % len(self.clips)]
        result = await self.client.transcribe(clip, skip_cache=True, timeout=self.patience_seconds)
        if result.partial:
            raise InternalError("the result is partial", reason="PARTIAL")

    async def submit(self, number: int) -> None:
        """Submits a job and waits for its end. Raises as ``transcribe`` does."""
        clip = self.clips[number % len(self.clips)]
        job = await self.client.submit(clip, skip_cache=True, timeout=self.patience_seconds)
        self.jobs.append(job)
        async for event in self.client.watch(job.id, timeout=self.patience_seconds):
            if isinstance(event, Job):
                last = event
        self.jobs.remove(job)
        if last.state is not JobState.SUCCEEDED or last.partial:
            raise InternalError(f"the job ended as {last.state}", reason="NOT_WHOLE")

    async def both(self, number: int) -> None:
        """Asks in one call or by a job, in turn."""
        await (self.transcribe, self.submit)[number % 2](number)

    async def cancel_jobs(self) -> None:
        """Cancels what waits."""
        for job in list(self.jobs):
            await self.client.cancel_job(job.id)


def worst(errors: Sequence[CarecaError]) -> str:
    """What went wrong, for whoever waits."""
    return "; ".join(sorted({f"{error.reason}: {error.message}" for error in errors}))
