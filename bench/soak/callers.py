"""What all work with the stack needs: new recordings, clients with tokens, and what must come of a job."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import httpx2
import numpy as np
import numpy.typing as npt

from bench.common import audio
from bench.soak.stack import OPERATOR, USERS, SoakStack
from careca.errors import CarecaError, NotFound, Unavailable
from careca.types import SAMPLE_RATE, Job, JobState
from careca_client import Access, AsyncClient, TranscriptionResult
from timed_service import WORD_SECONDS

PATIENCE_SECONDS = 300.0
"""Longer than any request or job takes, with restarts and a full queue."""

RETRIES = 12
"""A caller who does not give up while a gateway restarts."""

MAX_WORDS = 20
"""Recordings have from one to so many words. Two that follow each other never have the same number."""

CONNECTION = "CONNECTION"
"""The reason for a web service that cannot be reached, or that is gone in the middle of a response."""

V = TypeVar("V")


class WrongAnswerError(Exception):
    """An answer that must not be."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording, and how many words are said in it."""

    data: bytes
    words: int

    def check(self, text: str) -> None:
        """Raises ``WrongAnswerError`` if the text is not what is said."""
        said = " ".join(f"word{number}" for number in range(self.words))
        if " ".join(text.split()) != said:
            raise WrongAnswerError(f"{self.words} words were said, the text is {text[:200]!r}")


class Callers:
    """All callers of one stack. An open context keeps their connections."""

    def __init__(self, stack: SoakStack, folder: Path, seed: int) -> None:
        self.stack = stack
        self.chance = random.Random(seed)
        self._noise = np.random.default_rng(seed)
        self._folder = folder
        self._clips = 0
        self._recent: deque[Clip] = deque(maxlen=6)
        self.accepted_jobs = 0
        self._unverified: ContextVar[set[str]] = ContextVar("unverified")
        """Of one piece of work, the jobs that a gateway has accepted and that have not ended as they must."""

    async def __aenter__(self) -> Self:
        self._context = self.stack.certificates.context
        access = Access(ca_file=self.stack.certificates.authority)
        self._clients = [AsyncClient(target, retries=RETRIES, access=access) for target in self.stack.targets]
        self._webs = [self.new_web(url) for url in self.stack.web_urls]
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.close()
        for web in self._webs:
            await web.aclose()

    def new_web(self, url: str = "") -> httpx2.AsyncClient:
        """A client of a web service with connections of its own."""
        return httpx2.AsyncClient(
            base_url=url or self.chance.choice(self.stack.web_urls),
            verify=self._context,
            timeout=PATIENCE_SECONDS,
            trust_env=False,
            limits=httpx2.Limits(max_connections=None),
        )

    @contextmanager
    def client(self, name: str = "") -> Iterator[AsyncClient]:
        """A client of one of the gateways, with the token of a caller; by default of any user."""
        with self.stack.tokens.use(name or self.chance.choice(USERS)) as token:
            yield self.chance.choice(self._clients).as_caller(token=token)

    @contextmanager
    def web(self) -> Iterator[tuple[httpx2.AsyncClient, Mapping[str, str]]]:
        """A client of one of the web services, and the header with a user's token."""
        with self.stack.tokens.use(self.chance.choice(USERS)) as token:
            yield self.chance.choice(self._webs), {"Authorization": f"Bearer {token}"}

    async def new_clip(self) -> Clip:
        """A recording that nobody has sent, as FLAC or WAV."""
        self._clips += 1
        words = 1 + self._clips * 7 % MAX_WORDS
        samples = self.noise(words)
        write, suffix = self.chance.choice([(audio.write_flac, "flac"), (audio.write_wav, "wav")])
        path = self._folder / f"clip-{self._clips}.{suffix}"
        await asyncio.to_thread(write, samples, path)
        clip = Clip(path.read_bytes(), words)
        path.unlink()
        self._recent.append(clip)
        return clip

    def noise(self, words: int) -> npt.NDArray[np.int16]:
        """What takes as long as so many words: 16 kHz mono of shape (samples,)."""
        return self._noise.integers(-1000, 1000, round((words + 0.5) * WORD_SECONDS * SAMPLE_RATE), np.int16)

    async def recent_clip(self) -> Clip:
        """A recording that was sent a moment ago, and that may be worked on."""
        return self.chance.choice(self._recent) if self._recent else await self.new_clip()

    def accepted(self, job_id: str) -> None:
        """A gateway has accepted a job in this piece of work: it must not be lost."""
        self.accepted_jobs += 1
        self._unverified.get().add(job_id)

    def verified(self, job_id: str) -> None:
        """A job of this piece of work has ended as it must, or was removed on purpose."""
        self._unverified.get().discard(job_id)

    @asynccontextmanager
    async def losing_nothing(self) -> AsyncIterator[None]:
        """One piece of work. Jobs that it has not verified, because an error ended it, are verified in the end.

        Raises ``WrongAnswerError`` if one was lost or has not succeeded.
        """
        jobs: set[str] = set()
        self._unverified.set(jobs)
        try:
            yield
        finally:
            with self.client(OPERATOR) as client:
                for job_id in list(jobs):
                    job = await self.follow(client, await self.existing(client, job_id))
                    if job.state is not JobState.SUCCEEDED or job.partial:
                        raise WrongAnswerError(f"job {job.id} ended as {job.state}, {job.error_reason}")

    async def follow(self, client: AsyncClient, job: Job) -> Job:
        """The job after its end. A watch that fails is no matter: whether the job is lost is seen by the job."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not job.state.ended:
            if time.monotonic() > deadline:
                raise WrongAnswerError(f"job {job.id} is {job.state} after {PATIENCE_SECONDS:.0f} s")
            with contextlib.suppress(CarecaError):
                async for event in client.watch(job.id, timeout=deadline - time.monotonic()):
                    if isinstance(event, Job):
                        job = event
            if not job.state.ended:
                await asyncio.sleep(1.0)
                job = await self.existing(client, job.id)
        return job

    async def existing(self, client: AsyncClient, job_id: str) -> Job:
        """The job now. Raises ``WrongAnswerError`` if it is lost."""
        try:
            return await patiently(lambda: client.job(job_id))
        except NotFound:
            raise WrongAnswerError(f"job {job_id} is lost") from None

    async def verify(self, client: AsyncClient, job: Job, clip: Clip) -> TranscriptionResult:
        """The result of a job that was accepted, which must succeed with the right words."""
        self.accepted(job.id)
        job = await self.follow(client, job)
        if job.state is not JobState.SUCCEEDED or job.partial:
            raise WrongAnswerError(f"job {job.id} ended as {job.state}, {job.error_reason}: {job.error_message}")
        result = await patiently(lambda: client.job_result(job.id))
        clip.check(result.text)
        self.verified(job.id)
        return result


async def patiently(call: Callable[[], Awaitable[V]]) -> V:
    """What the call returns, which is repeated while the gateway or Redis is away."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await call()
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(1.0)


def check_result(result: TranscriptionResult, clip: Clip) -> None:
    """Raises ``WrongAnswerError`` for other words, and the error of a failed stage where the result is partial."""
    for stage in result.stages:
        if stage.error_reason:
            raise CarecaError(stage.error_message, reason=stage.error_reason)
    clip.check(result.text)
