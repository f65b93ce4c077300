"""Sends damaged recordings, requests, HTTP and connections to the real decoder and real services: ``make fuzz``.

.venv/bin/python -m bench.fuzz                # all, about ten minutes; writes docs/security.md
.venv/bin/python -m bench.fuzz --seed 7 --recordings 0 --no-document

Ends with status 1 where anything is answered, logged, kept or lost that should not be.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path

from bench import REPOSITORY
from bench.common.harness import announce
from bench.common.tables import splice, table
from bench.fuzz import connections as fuzz_connections
from bench.fuzz.http_calls import SECRETS
from bench.fuzz.http_requests import HttpRequester, unexplained
from bench.fuzz.http_targets import HttpTargets
from bench.fuzz.recordings import damaged, valid_recordings
from bench.fuzz.requests import Requester, diarizer_calls, gateway_calls, is_fault, transcriber_calls
from bench.fuzz.services import PROCESSES, ModellessStack, Vitals, at_rest, complaints, troubles
from careca.errors import CarecaError
from careca.types import AudioTracks, ChannelMode, Job, OutputFormat
from careca_client import AsyncClient

DOCUMENT = REPOSITORY / "docs" / "security.md"
MARK = "fuzz"

UPLOADS_AT_ONCE = 6

_METHODS = {
    "gateway": "/careca.v1.AdminService/Stats",
    "transcriber": "/careca.v1.TranscriberService/Stats",
    "diarizer": "/careca.v1.DiarizerService/Stats",
}


@dataclass(frozen=True, slots=True)
class Amounts:
    """How many damaged ones of each kind."""

    recordings: int
    uploads: int
    requests: int
    connections: int
    http: int

    def warm_up(self) -> Amounts:
        """What is sent before memory is first measured: enough that all pools are full and all code has run."""
        return Amounts(
            0,
            uploads=min(40, self.uploads),
            requests=min(600, self.requests),
            connections=min(120, self.connections),
            http=min(600, self.http),
        )


@dataclass
class Report:
    """What was seen."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    before: dict[str, Vitals] = field(default_factory=dict)
    after: dict[str, Vitals] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    """What must not be."""
    seconds: float = 0.0

    def count(self, kind: str, outcomes: Counter[str]) -> None:
        """Takes outcomes of one kind."""
        self.outcomes[kind] = self.outcomes.get(kind, Counter()) + outcomes
        self.faults += [
            f"{kind}: {outcome} ({count} times)" for outcome, count in outcomes.items() if is_fault(outcome)
        ]


def main() -> int:
    """Sends, looks, and writes; 1 where anything is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=20_000, help="into the decoder")
    parser.add_argument("--uploads", type=int, default=1_000, help="of such recordings, through the whole gateway")
    parser.add_argument("--requests", type=int, default=20_000, help="half of them to the gateway")
    parser.add_argument("--connections", type=int, default=3_000, help="the same number to each service")
    parser.add_argument("--http", type=int, default=10_000, help="requests to the web service")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-document", action="store_true", help="do not write docs/security.md")
    arguments = parser.parse_args()
    amounts = Amounts(
        arguments.recordings, arguments.uploads, arguments.requests, arguments.connections, arguments.http
    )
    report = fuzz(amounts, arguments.seed)
    text = as_text(report, arguments.seed)
    print(text)
    for fault in report.faults[:100]:
        announce(fault)
    if not arguments.no_document:
        DOCUMENT.write_text(splice(DOCUMENT.read_text(), text, mark=MARK))
    return 1 if report.faults else 0


def fuzz(amounts: Amounts, seed: int) -> Report:
    """Everything, and what became of it."""
    began, report = time.monotonic(), Report()
    if amounts.recordings:
        report.count("recordings, in the decoder", decode_all(amounts.recordings, seed))
        announce(f"recordings decoded after {time.monotonic() - began:.0f} s")
    with tempfile.TemporaryDirectory(prefix="careca-fuzz-") as name, ModellessStack(Path(name), web=True) as stack:
        asyncio.run(_fuzz_services(stack, amounts, seed, report))
        announce(f"services done after {time.monotonic() - began:.0f} s")
        for service in PROCESSES:
            report.faults += [f"log of the {service}: {line}" for line in complaints(stack.log_lines(service), SECRETS)]
    report.faults += [f"{name} ended with status {code}" for name, code in stack.exit_codes.items() if code]
    report.seconds = time.monotonic() - began
    return report


def decode_all(count: int, seed: int) -> Counter[str]:
    """What becomes of so many damaged recordings, by as many workers as there are processors."""
    workers = len(os.sched_getaffinity(0))
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.fuzz.recordings", *map(str, (seed, first, count, workers))],
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
        )
        for first in range(workers)
    ]
    outcomes: Counter[str] = Counter()
    for worker in running:
        answer, _ = worker.communicate()
        if worker.returncode:
            raise RuntimeError(f"a worker ended with status {worker.returncode}: see above")
        outcomes.update(json.loads(answer))
    return outcomes


async def _fuzz_services(stack: ModellessStack, amounts: Amounts, seed: int, report: Report) -> None:
    pids = dict(stack.pids)
    await _send_all(stack, amounts.warm_up(), f"warm up {seed}", Report())
    report.before = await at_rest(stack)
    await _send_all(stack, amounts, str(seed), report)
    await _clear(stack)
    report.after = await at_rest(stack, report.before)
    report.faults += troubles(report.before, report.after)
    report.faults += [f"left over: {path}" for path in await _left_over(stack)]
    async with AsyncClient(stack.gateway_target) as client:
        if pids != stack.pids or (await client.health()).status != "SERVING":
            report.faults.append("not all services serve any more")


async def _send_all(stack: ModellessStack, amounts: Amounts, seed: str, report: Report) -> None:
    announce(f"sending {amounts}")
    report.count("recordings, through the gateway", await _upload(stack, amounts.uploads, seed))
    announce("uploads done")
    recording = valid_recordings()["flac/flac"]
    async with AsyncClient(stack.gateway_target) as client:
        await client.transcribe(recording)
        job_ids = [(await client.submit(recording)).id for _ in range(3)]
    audio = bytes(32_000)
    calls = {
        "gateway": gateway_calls(recording, job_ids),
        "transcriber": transcriber_calls(audio),
        "diarizer": diarizer_calls(audio),
    }
    for service, share in (("gateway", 2), ("transcriber", 4), ("diarizer", 4)):
        requester = Requester(stack.target(service), calls[service], f"{seed}/{service}")
        await requester.send(range(amounts.requests // share))
        report.count(f"requests to the {service}", requester.outcomes)
        report.faults += requester.faults[:20]
    announce("requests done")
    targets = HttpTargets(stack, recording)
    http = HttpRequester(stack.target("web"), targets.renew, f"{seed}/http")
    await http.send(range(amounts.http))
    report.count("HTTP requests", http.outcomes)
    report.faults += [*http.faults[:20], *unexplained(http.cut, stack.log_lines("web"))]
    report.faults += [f"no damaged request is about {operation}" for operation in targets.undescribed]
    announce("HTTP requests done")
    for service in PROCESSES:
        recorded = (
            await fuzz_connections.recorded_call(stack.target(service), _METHODS[service])
            if service in _METHODS
            else f"GET /api/info HTTP/1.1\r\nHost: {stack.target(service)}\r\n\r\n".encode()
        )
        numbers = range(amounts.connections // len(PROCESSES))
        outcomes = await fuzz_connections.disturb(stack.target(service), recorded, f"{seed}/{service}", numbers)
        report.count("connections", outcomes)


async def _upload(stack: ModellessStack, count: int, seed: str) -> Counter[str]:
    """What becomes of damaged recordings that are sent to the gateway as anybody would."""
    outcomes: Counter[str] = Counter()
    recordings = enumerate(islice(damaged_for(seed), count))

    async def some(client: AsyncClient) -> None:
        for number, data in recordings:
            outcomes[await _become_of(client, number, data)] += 1

    async with AsyncClient(stack.gateway_target, retries=0) as client:
        await asyncio.gather(*(some(client) for _ in range(UPLOADS_AT_ONCE)))
    return outcomes


def damaged_for(seed: str) -> Iterator[bytes]:
    """Other damaged recordings than the decoder has had alone."""
    return damaged(seed, range(1 << 30, 1 << 31))


async def _become_of(client: AsyncClient, number: int, data: bytes) -> str:
    """The outcome of a damaged recording: every fourth as a job, every fifth with channels of their own."""
    mode = ChannelMode.SEPARATE if number % 5 == 0 else ChannelMode.MIX
    track = AudioTracks.ALL if number % 5 == 1 else AudioTracks.EACH if number % 5 == 2 else AudioTracks.AUTO
    source = io.BytesIO(data)
    try:
        if number % 4:
            await client.transcribe(
                source, channel_mode=mode, audio_track=track, formats=tuple(OutputFormat), timeout=240.0
            )
            return "result"
        job = await client.submit(source, channel_mode=mode, audio_track=track)
        async for event in client.watch(job.id):
            if isinstance(event, Job):
                job = event
    except CarecaError as error:
        return f"{error.status} {error.reason}"
    return f"job {job.state.value} {job.error_reason}".strip()


async def _clear(stack: ModellessStack) -> None:
    """Removes what callers keep on purpose: their jobs."""
    async with AsyncClient(stack.gateway_target) as client:
        jobs = [job async for job in client.jobs(all_submitters=True)]
    for submitter, own in groupby(sorted(jobs, key=_submitter), key=_submitter):
        async with AsyncClient(stack.gateway_target, submitter=submitter) as client:
            for job in own:
                await client.delete_job(job.id)


def _submitter(job: Job) -> str:
    return job.submitter


async def _left_over(stack: ModellessStack) -> list[str]:
    """Files that are there although nobody needs them any more, once the store had occasion to remove them."""
    async with AsyncClient(stack.gateway_target) as client:
        for _ in range(30):
            if not (left := stack.leftovers()):
                return []
            await asyncio.sleep(2.0)
            # The store is swept after requests; this one brings nothing that could stay.
            try:
                await client.transcribe(b"\0" * 1_000)
            except CarecaError as error:
                if error.reason != "NOT_A_RECORDING":
                    raise
    return left


def as_text(report: Report, seed: int) -> str:
    """What was seen, as Markdown."""
    outcomes = [
        [kind if first else "", outcome, str(count)]
        for kind, counter in report.outcomes.items()
        for first, (outcome, count) in _marked(counter.most_common())
    ]
    sums = ", ".join(f"{sum(counter.values())} {kind}" for kind, counter in report.outcomes.items())
    memory = [
        [
            service,
            *(f"{getattr(each, name) / 2**20:.0f} MiB" for name in ("rss_bytes", "uss_bytes") for each in (was, now)),
            *(str(getattr(each, name)) for name in ("descriptors", "threads") for each in (was, now)),
        ]
        for service, was, now in ((name, report.before[name], report.after[name]) for name in report.after)
    ]
    head = ["", "RSS before", "after", "USS before", "after", "descriptors before", "after", "threads before", "after"]
    verdict = (
        "Nothing that must not be was seen."
        if not report.faults
        else f"NOT AS IT MUST BE: {len(report.faults)} faults."
    )
    return "\n\n".join(
        (
            f"Seed {seed}, {report.seconds / 60:.0f} minutes: {sums}. {verdict}",
            table(["damaged", "became", "how many"], outcomes),
            table(head, memory),
        )
    )


def _marked(rows: Sequence[tuple[str, int]]) -> Iterator[tuple[bool, tuple[str, int]]]:
    return ((index == 0, row) for index, row in enumerate(rows))


if __name__ == "__main__":
    sys.exit(main())
