"""What callers do over gRPC: each kind of work knows what must come of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from bench.live.playing import play
from bench.soak.callers import PATIENCE_SECONDS, Callers, Clip, WrongAnswerError, check_result, patiently
from bench.soak.stack import MAX_RECORDING_BYTES, OPERATOR
from careca.errors import CarecaError, NotFound, PreconditionFailed
from careca.types import ClearScope, Job, JobState, ReplaceUtterances
from careca_client import Access, AsyncClient
from careca_client.aio.live import AsyncLiveSession
from careca_client.live import LiveFinal, LiveInterim

_APPEARS_SECONDS = 60.0
"""How long an abandoned session may take to become a job: a gateway that was killed is missed after 10 s, and the
session ends after 5 s without a call."""


class Calls(Callers):
    """All kinds of work over gRPC."""

    async def call(self) -> None:
        """One call."""
        clip = await self.new_clip()
        with self.client() as client:
            check_result(await client.transcribe(clip.data, timeout=PATIENCE_SECONDS), clip)

    async def call_again(self) -> None:
        """A call with a recording that somebody else has just sent."""
        clip = await self.recent_clip()
        with self.client() as client:
            check_result(await client.transcribe(clip.data, timeout=PATIENCE_SECONDS), clip)

    async def cancelled_call(self) -> None:
        """A call whose caller goes away."""
        clip = await self.new_clip()
        with self.client() as client:
            await _for_a_while(client.transcribe(clip.data), self.chance.uniform(0.0, 3.0))

    async def job(self) -> None:
        """A job, submitted once or twice with one request id."""
        clip = await self.new_clip()
        with self.client() as client:
            request_id = str(uuid4())
            job = await client.submit(clip.data, request_id=request_id)
            if self.chance.random() < 0.3:
                again = await client.submit(clip.data, request_id=request_id)
                if again.id != job.id:
                    raise WrongAnswerError(f"one request id made the jobs {job.id} and {again.id}")
            await self.verify(client, job, clip)

    async def upload_then_job(self) -> None:
        """An upload, and a job that names it."""
        clip = await self.new_clip()
        with self.client() as client:
            digest = await client.upload(clip.data)
            await self.verify(client, await client.submit_digest(digest), clip)

    async def cancelled_job(self) -> None:
        """A job that is cancelled, and then retried or deleted."""
        clip = await self.new_clip()
        with self.client() as client:
            job = await client.submit(clip.data)
            self.accepted(job.id)
            await asyncio.sleep(self.chance.uniform(0.0, 3.0))
            job = await patiently(lambda: client.cancel_job(job.id))
            if job.state not in (JobState.CANCELLED, JobState.SUCCEEDED):
                raise WrongAnswerError(f"job {job.id} is {job.state} after it was cancelled")
            if job.state is JobState.CANCELLED and self.chance.random() < 0.5:
                await self.verify(client, await self._retry(client, job), clip)
                return
            await patiently(lambda: _delete(client, job.id))
            self.verified(job.id)

    async def corrected_job(self) -> None:
        """A job whose transcript is corrected. The correction is there afterwards."""
        clip = await self.new_clip()
        with self.client() as client:
            job = await client.submit(clip.data)
            result = await self.verify(client, job, clip)
            edit = ReplaceUtterances(0, 1, (replace(result.utterances[0], text="corrected", words=()),))
            await client.save_transcript(job.id, [edit], base_revision=0)
            corrected = await patiently(lambda: client.job_result(job.id))
            if corrected.revision != 1 or corrected.utterances[0].text != "corrected":
                raise WrongAnswerError(f"the correction of job {job.id} is lost")

    async def live_session(self) -> None:
        """A live session up to its result."""
        clip, samples = self._spoken()
        with self.client() as client:
            playing = await play(client, samples)
        if playing.result is None or not playing.words:
            raise WrongAnswerError("a live session has no result, or told no words")
        check_result(playing.result, clip)

    async def abandoned_session(self) -> None:
        """A live session whose caller goes away. It ends by itself, and its job has what the gateway had received."""
        _clip, samples = self._spoken()
        with self.client() as client:
            async with client.live() as session:
                await session.send(samples.tobytes())
                request_id = f"live-{session.id}"
                heard = await _received(session)
            job = await self._of_session(client, request_id)
            if job.state is not JobState.SUCCEEDED or job.partial:
                raise WrongAnswerError(f"the job {job.id} of a session ended as {job.state}, {job.error_reason}")
            result = await patiently(lambda: client.job_result(job.id))
            if result.duration < heard:
                raise WrongAnswerError(
                    f"{heard:.1f} s of a live session were received, its job has {result.duration:.1f} s"
                )
            self.verified(job.id)

    async def bad_input(self) -> None:
        """Something that must be refused, with the right reason."""
        clip = await self.new_clip()
        with self.client() as client:
            attempts: list[tuple[str, Callable[[], Awaitable[object]]]] = [
                ("NOT_A_RECORDING", lambda: client.transcribe(self.chance.randbytes(5_000))),
                ("SINGLE_CHANNEL", lambda: client.transcribe(clip.data, channel_mode="separate")),
                ("UNKNOWN_LANGUAGE", lambda: client.transcribe(clip.data, language="xx")),
                ("RECORDING_TOO_LARGE", lambda: client.transcribe(bytes(MAX_RECORDING_BYTES + 1))),
                ("JOB_NOT_FOUND", lambda: client.job(str(uuid4()))),
                ("NEEDS_ADMIN", client.stats),
                ("UNKNOWN_TOKEN", self._stranger),
            ]
            expected, attempt = self.chance.choice(attempts)
            try:
                await attempt()
            except CarecaError as error:
                if error.reason != expected:
                    raise
            else:
                raise WrongAnswerError(f"what must be refused as {expected} was accepted")

    async def operator(self) -> None:
        """What operators call."""
        with self.client(OPERATOR) as client:
            attempts: list[Callable[[], Awaitable[object]]] = [
                client.stats,
                client.release_memory,
                lambda: client.clear_cache(ClearScope.EXPIRED),
                lambda: client.clear_cache(ClearScope.ALL),
            ]
            await self.chance.choice(attempts)()

    async def _stranger(self) -> None:
        access = Access(token="careca_unknown", ca_file=self.stack.certificates.authority)
        async with AsyncClient(self.stack.targets[0], access=access) as client:
            await client.info()

    async def _retry(self, client: AsyncClient, job: Job) -> Job:
        try:
            return await patiently(lambda: client.retry_job(job.id))
        except PreconditionFailed as error:
            # The answer to the first attempt was lost: the job is queued already.
            if error.reason != "NOTHING_TO_RETRY":
                raise
            return await self.existing(client, job.id)

    async def _of_session(self, client: AsyncClient, request_id: str) -> Job:
        """The job of an abandoned session, after its end."""
        deadline = time.monotonic() + _APPEARS_SECONDS
        while time.monotonic() < deadline:
            await asyncio.sleep(2.0)
            page = await patiently(lambda: client.jobs_page(page_size=200))
            if found := [job for job in page.jobs if job.request_id == request_id]:
                return await self.follow(client, found[0])
        raise WrongAnswerError(f"an abandoned session has no job after {_APPEARS_SECONDS:.0f} s")

    def _spoken(self) -> tuple[Clip, npt.NDArray[np.int16]]:
        """What is said in a live session: 16 kHz mono of shape (samples,)."""
        words = self.chance.randrange(4, 12)
        return Clip(b"", words), self.noise(words)


async def _for_a_while(call: Awaitable[object], seconds: float) -> None:
    """Waits so long for the call, and then cancels it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await call


async def _received(session: AsyncLiveSession) -> float:
    """Seconds of audio that the gateway has understood when it first says so."""
    async for event in session:
        if isinstance(event, LiveInterim | LiveFinal) and event.audio_seconds:
            return event.audio_seconds
    raise WrongAnswerError("a live session ended although its caller did not end it")


async def _delete(client: AsyncClient, job_id: str) -> None:
    """Removes a job. It may be gone if the answer to an earlier attempt was lost."""
    with suppress(NotFound):
        await client.delete_job(job_id)
