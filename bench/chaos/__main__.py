"""Does jobs while every part of the stack is killed again and again, and sees whether anything is lost: ``make chaos``.

.venv/bin/python -m bench.chaos               # real models; SIGKILL, then SIGTERM
.venv/bin/python -m bench.chaos --timed 0.5   # model services that only take time
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import REPOSITORY
from bench.common import audio, dataset
from bench.common.chaos import Chaos
from bench.common.fleet import Fleet
from bench.common.harness import announce, cleanly
from bench.common.tables import splice, table
from careca.errors import CarecaError
from careca.types import Job, JobState
from careca_client import AsyncClient

DOCUMENT = REPOSITORY / "docs" / "jobs.md"
MARK = "chaos"

CLIP_SECONDS = 4.0
RETRIES = 1000
"""How often a call is tried again: somebody who submits and will not give up."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the jobs under one kind of signal."""

    how: signal.Signals
    jobs: tuple[Job, ...]
    results: int
    """Results in the store."""
    readable: int
    """Results that could be read and say what they say without anybody being killed."""
    ends: int
    """Processes that were ended."""
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether everything is as it must be."""
        whole = all(job.state is JobState.SUCCEEDED and not job.partial for job in self.jobs)
        wasted = self.how is signal.SIGTERM and self.attempts["WORKER_LOST"]
        return whole and self.results == self.readable == len(self.jobs) and not wasted

    @property
    def attempts(self) -> Counter[str]:
        """All attempts, by how they ended."""
        return Counter(attempt.outcome for job in self.jobs for attempt in job.attempts)


def main() -> int:
    """Measures and writes; 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--ends", type=int, default=20, help="how often each part is ended and started again")
    parser.add_argument("--timed", type=float, default=None, metavar="SECONDS", help="no models: tasks take so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--signals", nargs="+", default=["SIGKILL", "SIGTERM"], choices=["SIGKILL", "SIGTERM"])
    parser.add_argument("--no-document", action="store_true", help="do not write docs/jobs.md")
    arguments = parser.parse_args()
    outcomes = [run(arguments, signal.Signals[name]) for name in arguments.signals]
    text = report(arguments, outcomes)
    print(text)
    if not arguments.no_document:
        DOCUMENT.write_text(splice(DOCUMENT.read_text(), text, mark=MARK))
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def run(arguments: argparse.Namespace, how: signal.Signals) -> Outcome:
    """Starts a stack, does the jobs, and looks at what is there in the end."""
    with tempfile.TemporaryDirectory(prefix="careca-chaos-") as name:
        folder = Path(name)
        clips = make_clips(folder, arguments.jobs, arguments.seed)
        # Nothing is answered from the caches: each attempt does its work.
        environment = {"CARECA_WHISPER_MODEL": "whisper-tiny.en", "CARECA_LOG_LEVEL": "info"}
        with Fleet(folder / "stack", environment=environment, timed_seconds=arguments.timed) as stack:
            return asyncio.run(_run(arguments, how, stack, clips))


def make_clips(folder: Path, count: int, seed: int) -> list[Path]:
    """As many different short recordings, cut from those at hand."""
    clips = audio.pieces(dataset.speech()[:12], [CLIP_SECONDS] * count)
    paths = [folder / f"clip-{number:03}.flac" for number in range(count)]
    random.Random(seed).shuffle(clips)
    for path, clip in zip(paths, clips, strict=True):
        audio.write_flac(clip, path)
    return paths


async def _run(arguments: argparse.Namespace, how: signal.Signals, stack: Fleet, clips: Sequence[Path]) -> Outcome:
    began = time.monotonic()
    chaos = Chaos(stack, how, arguments.ends, random.Random(arguments.seed))
    async with AsyncClient(stack.targets[0], retries=RETRIES) as client:
        killing = asyncio.create_task(chaos.run())
        submitting = [asyncio.create_task(_submit(client, chaos, clips, number)) for number in range(len(clips))]
        submitted = await asyncio.gather(*submitting)
        await killing
        announce(f"{how.name}: all ends are done after {time.monotonic() - began:.0f} s; waiting for the jobs")
        jobs = tuple([await _ended(client, job) for job in submitted])
        seconds = time.monotonic() - began
        texts = [await _text(client, job) for job in jobs]
        results = list(stack.root.rglob("results/*/*"))  # before there are those of calls, which are jobs too
        again = [(await client.transcribe(clip, timeout=600.0)).message for clip in clips]
    readable = sum(
        text == [each.text for each in message.utterances] for text, message in zip(texts, again, strict=True)
    )
    return Outcome(how, jobs, len(results), readable, chaos.ends, seconds)


async def _submit(client: AsyncClient, chaos: Chaos, clips: Sequence[Path], number: int) -> Job:
    """Submits one job once so much of the killing is done: there are jobs at work until its end."""
    while chaos.progress < number / len(clips):  # noqa: ASYNC110 -- nothing tells when a process has ended
        await asyncio.sleep(0.1)
    return await client.submit(clips[number], request_id=f"job-{number}")


async def _ended(client: AsyncClient, job: Job) -> Job:
    last = job
    async for event in client.watch(job.id):
        if isinstance(event, Job):
            last = event
    return last


async def _text(client: AsyncClient, job: Job) -> list[str]:
    try:
        return [each.text for each in (await client.job_result(job.id)).message.utterances]
    except CarecaError as error:
        return [f"{error.reason}: {error.message}"]


def report(arguments: argparse.Namespace, outcomes: Sequence[Outcome]) -> str:
    """What was seen, as Markdown."""
    head = ["", *(outcome.how.name for outcome in outcomes)]
    rows = [
        ["jobs", *(str(len(each.jobs)) for each in outcomes)],
        ["ended SUCCEEDED and whole", *(str(_whole(each.jobs)) for each in outcomes)],
        ["results in the store", *(str(each.results) for each in outcomes)],
        ["results that say what an undisturbed run says", *(str(each.readable) for each in outcomes)],
        ["processes ended", *(str(each.ends) for each in outcomes)],
        ["attempts", *(str(sum(each.attempts.values())) for each in outcomes)],
        ["attempts lost with their gateway", *(str(each.attempts["WORKER_LOST"]) for each in outcomes)],
        ["attempts handed back", *(str(each.attempts["HANDED_BACK"]) for each in outcomes)],
        ["seconds", *(f"{each.seconds:.0f}" for each in outcomes)],
        ["as it must be", *("yes" if each.passed else "NO" for each in outcomes)],
    ]
    models = "real models" if arguments.timed is None else f"tasks that take {arguments.timed:g} s, without models"
    return f"Gateway, transcriber, diarizer and both Redis, each {arguments.ends} times; {models}.\n\n" + table(
        head, rows
    )


def _whole(jobs: Sequence[Job]) -> int:
    return sum(job.state is JobState.SUCCEEDED and not job.partial for job in jobs)


if __name__ == "__main__":
    sys.exit(cleanly(main))
