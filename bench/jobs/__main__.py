"""How fast jobs are, and how soon others take over: ``make bench-jobs``. Real processes; the models only take time.

.venv/bin/python -m bench.jobs                  # everything; writes docs/jobs.md
.venv/bin/python -m bench.jobs takeover cancel  # some of it; writes nothing
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import redis

from bench import REPOSITORY
from bench.common import audio, dataset
from bench.common.fleet import Fleet
from bench.common.harness import announce, cleanly
from bench.common.tables import milliseconds, seconds, splice, table
from careca.types import SAMPLE_RATE, Digest, Job, JobState
from careca_client import AsyncClient
from careca_gateway.jobs.progress import first_stages
from careca_gateway.jobs.queue.port import Limits, Outcome, Query, Submission
from careca_gateway.jobs.queue.redis_queue import RedisJobQueue

DOCUMENT = REPOSITORY / "docs" / "jobs.md"
MARK = "bench-jobs"

TASK_SECONDS = 1.0
CLIPS = 48
NO_LIMITS = Limits(10**9, 10**9)


def main() -> int:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="part", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--jobs", type=int, default=1000, help="jobs of `share`")
    parser.add_argument("--finished", type=int, default=100_000, help="jobs of `history`")
    arguments = parser.parse_args()
    rows = [row for name in arguments.parts or PARTS for row in asyncio.run(PARTS[name](arguments))]
    text = table(["", "limit", "measured", "met"], rows)
    print(text)
    if not arguments.parts:
        DOCUMENT.write_text(splice(DOCUMENT.read_text(), text, mark=MARK))
    return 0


Rows = list[list[str]]


async def measure_takeover(_: argparse.Namespace) -> Rows:
    """Kills the gateway that works on a job, and sees when another one does."""
    waits = []
    for _round in range(5):
        async with _fleet(gateways=2, timed_seconds=8.0) as (stack, clients, clip):
            job = await clients[0].submit(clip)
            first = (await _when(clients[0], job, JobState.RUNNING)).attempts[-1].worker
            victim, other = (0, 1) if first in (stack.root / "logs" / "gateway-1.log").read_text() else (1, 0)
            began = time.monotonic()
            await asyncio.to_thread(stack.end_part, f"gateway-{victim + 1}", signal.SIGKILL)
            async for event in clients[other].watch(job.id):
                if isinstance(event, Job) and event.attempts[-1].worker != first:
                    break
            waits.append(time.monotonic() - began)
            announce(f"taken over after {waits[-1]:.2f} s")
    return [_row("a killed gateway's job runs elsewhere after", max(waits), 5.0, seconds, f"longest of {len(waits)}")]


async def measure_share(arguments: argparse.Namespace) -> Rows:
    """Two gateways and four model workers share jobs: how much of the time are the workers' slots busy?

    The same audio twice at once would be computed once, so there are many; each was decoded before the clock starts.
    """
    settings = {"CARECA_REDIS_URL": ""}
    async with _fleet(gateways=2, workers=2, timed_seconds=TASK_SECONDS, environment=settings) as (
        stack,
        clients,
        clip,
    ):
        clips = _different_clips(clip)

        async def do(count: int) -> None:
            jobs = await _in_parallel(
                count, 32, lambda number: clients[number % 2].submit(clips[number % len(clips)], skip_cache=True)
            )
            for job in jobs:
                await _when(clients[0], job, JobState.SUCCEEDED)

        await do(len(clips))
        began = time.monotonic()
        await do(arguments.jobs)
        shares = {kind: _busy(stack.tasks(kind), began, workers=2) for kind in ("transcriber", "diarizer")}
    announce(f"busy: {shares}, {time.monotonic() - began:.0f} s")
    share = min(shares.values())
    what = f"each model slot is busy of the time, {arguments.jobs:,} jobs of {TASK_SECONDS:g} s"
    return [[what, "95%", f"{share:.1%}", "yes" if share > 0.95 else "NO"]]


async def measure_submit(_: argparse.Namespace) -> Rows:
    """How many jobs about a known recording one gateway takes in a second."""
    count = 3000
    async with _fleet(timed_seconds=60.0) as (_stack, clients, clip):
        await clients[0].submit(clip)
        began = time.monotonic()
        await _in_parallel(count, 64, lambda number: clients[0].submit(clip, display_name=str(number)))
        rate = count / (time.monotonic() - began)
    return [["jobs submitted in a second", "300", f"{rate:.0f}", "yes" if rate >= 300 else "NO"]]


async def measure_cancel(_: argparse.Namespace) -> Rows:
    """Cancels a job while both models work on it, and sees when they begin with the next."""
    waits = []
    settings = {"CARECA_REDIS_URL": ""}
    async with _fleet(timed_seconds=3.0, environment=settings) as (stack, clients, clip):
        for _round in range(5):
            job = await clients[0].submit(clip, skip_cache=True)
            await _when(clients[0], job, JobState.RUNNING)
            following = await clients[0].submit(clip, skip_cache=True)
            await asyncio.sleep(1.0)
            began = time.monotonic()
            await clients[0].cancel_job(job.id)
            await _when(clients[0], following, JobState.SUCCEEDED)
            waits.append(max(max(stack.tasks(kind))[0] for kind in ("transcriber", "diarizer")) - began)
            announce(f"both devices on the next job {waits[-1]:.3f} s after the cancel")
    return [
        _row("cancel: both devices work on the next job after", max(waits), 1.0, seconds, f"longest of {len(waits)}")
    ]


async def measure_history(arguments: argparse.Namespace) -> Rows:
    """What many finished jobs take of the memory of Redis, and how long a page of them takes."""
    count = arguments.finished
    settings = {"CARECA_JOBS_REDIS_URL": ""}  # the gateway would take these jobs
    async with _fleet(timed_seconds=1.0, environment=settings) as (stack, _clients, _clip):
        queue = RedisJobQueue(stack.jobs_redis_url)
        await _in_parallel(count, 32, lambda number: queue.submit(_submission(number), NO_LIMITS))
        await _in_parallel(count, 32, lambda _number: _finish_one(queue))
        await asyncio.sleep(1.0)
        with redis.Redis.from_url(stack.jobs_redis_url) as plain:
            used = int(plain.info("memory")["used_memory"])
        own = [await _page_seconds(queue, Query("somebody", limit=50)) for _ in range(50)]
        deep = await queue.list(Query("somebody", limit=500))
        pages = [await _page_seconds(queue, Query(None, before_id=deep[-1].id, limit=50)) for _ in range(50)]
        await queue.close()
    page = max(_median(own), _median(pages))
    return [
        _row(f"a page of 50 among {count:,} jobs, in the gateway", page, 0.020, milliseconds, "median"),
        [f"{count:,} finished jobs in Redis", "500 MB", f"{used / 1e6:.0f} MB", "yes" if used < 500e6 else "NO"],
    ]


async def _finish_one(queue: RedisJobQueue) -> None:
    lease = await queue.take("bench")
    if lease is None:
        raise RuntimeError("a job is missing")
    stages = lease.job.stages
    await queue.finish(lease, Outcome(JobState.SUCCEEDED, stages, result_key=f"results/{lease.job.id}/1"))


def _submission(number: int) -> Submission:
    return Submission(
        submitter=("somebody", "anybody", "everybody")[number % 3],
        request_id=f"request-{number:09}",
        recording=Digest(f"{number:064x}", 1_000_000),
        spec=b"\0" + bytes(150),
        display_name=f"recording-{number:06}.wav",
        stages=first_stages(),
    )


async def _page_seconds(queue: RedisJobQueue, query: Query) -> float:
    began = time.monotonic()
    assert len(await queue.list(query)) == query.limit
    return time.monotonic() - began


@asynccontextmanager
async def _fleet(
    *,
    gateways: int = 1,
    workers: int = 1,
    timed_seconds: float,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[Fleet, list[AsyncClient], Path]]:
    """A fleet, a client of each gateway, and a recording."""
    with tempfile.TemporaryDirectory(prefix="careca-jobs-") as name:
        clip = Path(name) / "clip.flac"
        audio.write_flac(audio.decode(dataset.speech()[0])[: 5 * SAMPLE_RATE], clip)
        stack = Fleet(
            Path(name) / "stack",
            environment=environment or {},
            gateways=gateways,
            workers=workers,
            timed_seconds=timed_seconds,
        )
        try:
            await asyncio.to_thread(stack.start)
            clients = [AsyncClient(target, retries=20) for target in stack.targets]
            yield stack, clients, clip
            for client in clients:
                await client.close()
        finally:
            await asyncio.to_thread(stack.stop)


async def _when(client: AsyncClient, job: Job, state: JobState) -> Job:
    """The job once it is in that state."""
    async for event in client.watch(job.id):
        if isinstance(event, Job) and event.state is state:
            return event
    raise RuntimeError(f"the job {job.id} ended without being {state}")


async def _in_parallel(count: int, at_once: int, call: Callable[[int], Awaitable[Job | None]]) -> list[Job]:
    """What ``call`` gives for each number below ``count``, so many of them at once."""
    numbers = iter(range(count))

    async def work() -> list[Job | None]:
        return [await call(number) for number in numbers]

    answers = await asyncio.gather(*(work() for _ in range(at_once)))
    return [job for job in itertools.chain.from_iterable(answers) if job is not None]


def _different_clips(clip: Path) -> list[Path]:
    """Clips of a second from different places of ``clip``."""
    samples = audio.decode(clip)
    paths = []
    for number in range(CLIPS):
        start = number * (len(samples) - SAMPLE_RATE) // CLIPS
        paths.append(clip.with_name(f"clip-{number}.flac"))
        audio.write_flac(samples[start : start + SAMPLE_RATE], paths[-1])
    return paths


def _busy(tasks: list[tuple[float, float]], since: float, *, workers: int) -> float:
    """Fraction of the time from the first task to the last that so many slots were busy."""
    tasks = [task for task in tasks if task[0] >= since]
    span = max(ended for _, ended in tasks) - min(attempt_started for attempt_started, _ in tasks)
    return sum(ended - attempt_started for attempt_started, ended in tasks) / span / workers


def _row(what: str, value: float, limit: float, write: Callable[[float], str], how: str) -> list[str]:
    return [f"{what} ({how})", write(limit), write(value), "yes" if value <= limit else "NO"]


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


PARTS = {
    "takeover": measure_takeover,
    "share": measure_share,
    "submit": measure_submit,
    "cancel": measure_cancel,
    "history": measure_history,
}

if __name__ == "__main__":
    sys.exit(cleanly(main))
