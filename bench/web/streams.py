"""Many event streams at once, while jobs run and the web service is replaced."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field

import psutil

from bench.common.harness import announce
from bench.common.report import Report
from bench.web.stack import TalkingStack, report_rss, talking_stack, write_recording
from careca.types import Segment
from careca_client import AsyncClient
from local_stack import HOST

CLIENTS = 300
JOBS = 10
AUDIO_SECONDS = 60.0
TASK_SECONDS = 6.0
CPU_LIMIT = 0.5
RECONNECT_SECONDS = 0.1


@dataclass
class Follower:
    """One caller that follows one job, and what arrived."""

    job_id: str
    segments: Counter[str] = field(default_factory=Counter)
    """How often each segment came, by its id."""
    events: int = 0
    last_id: str = ""
    state: str = ""
    ended: bool = False
    connections: int = 0

    async def follow(self, port: int) -> None:
        """Returns after the job's end. Connects again as browsers do, with the id of the last event."""
        while not self.ended:
            try:
                await self._connected(port)
            except OSError:
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _connected(self, port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        # HTTP/1.0: the answer then comes without chunks, and ends with the connection.
        lines = (
            f"GET /api/jobs/{self.job_id}/events HTTP/1.0",
            f"Host: {HOST}",
            f"Last-Event-ID: {self.last_id}",
            "",
            "",
        )
        try:
            writer.write("\r\n".join(lines).encode())
            status = await reader.readline()
            if b" 200 " not in status:
                raise ConnectionError(status)
            while await reader.readline() not in (b"\r\n", b""):
                pass
            self.connections += 1
            await self._read_events(reader)
        finally:
            writer.close()

    async def _read_events(self, reader: asyncio.StreamReader) -> None:
        event: dict[str, str] = {}
        while line := await reader.readline():
            if not line.endswith(b"\n"):
                return  # the connection ended within a line
            if line.strip():
                name, _, value = line.decode().rstrip("\r\n").partition(": ")
                event[name] = value
            elif event:
                self._take(event)
                event = {}

    def _take(self, event: dict[str, str]) -> None:
        match event.get("event"):
            case "segment":
                self.segments[event["id"]] += 1
            case "job":
                self.state = json.loads(event["data"])["state"]
            case "end":
                self.ended = True
            case _:
                return  # a comment that keeps the connection open
        self.events += 1
        self.last_id = event.get("id", self.last_id)


@dataclass
class Processor:
    """What a process takes of the processors, over several spans of time."""

    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0

    def begin(self, process: psutil.Process) -> None:
        """A span begins."""
        self._process, self._before, self._began = process, _cpu_of(process), time.monotonic()

    def end(self) -> None:
        """A span ends; the process must still run."""
        self.cpu_seconds += _cpu_of(self._process) - self._before
        self.wall_seconds += time.monotonic() - self._began

    @property
    def share(self) -> float:
        """Part of one processor that was used."""
        return self.cpu_seconds / self.wall_seconds


def _cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure_streams(report: Report) -> None:
    """300 callers follow 10 jobs that run one after the other; half of the way the web service is replaced."""
    async with talking_stack(TASK_SECONDS) as (stack, client, _http):
        jobs = [await _submit(stack, client, number) for number in range(JOBS)]
        processor = Processor()
        processor.begin(stack.process("web"))
        followers = [Follower(jobs[number % JOBS]) for number in range(CLIENTS)]
        following = [asyncio.create_task(follower.follow(stack.ports.web)) for follower in followers]
        await asyncio.gather(*following[JOBS // 2 - 1 :: JOBS])  # all who follow the job in the middle
        processor.end()
        await asyncio.to_thread(stack.end_part, "web")
        web = stack.part("web")
        stack.start_part(web)
        await asyncio.to_thread(stack.wait_until_ready, web)
        announce("the web service was replaced")
        processor.begin(stack.process("web"))
        await asyncio.gather(*following)
        processor.end()
        report_rss(report, stack.process("web"), "after the streams")
        expected = {job: await _segment_count(client, job) for job in jobs}
    events = sum(follower.events for follower in followers)
    wrong = [follower for follower in followers if not _whole(follower, followers, expected)]
    what = f"{CLIENTS} streams, one drain: streams in which a segment is missing or came twice, of {events:,} events"
    report.limit(what, "0", str(len(wrong)), met=not wrong)
    reconnected = sum(follower.connections > 1 for follower in followers)
    announce(f"{reconnected} streams continued after the drain; {processor}")
    what = f"  processor of the web service, {events / processor.wall_seconds:.0f} events/s, of one core"
    report.limit(what, f"{CPU_LIMIT:.0%}", f"{processor.share:.0%}", met=processor.share < CPU_LIMIT)


async def _submit(stack: TalkingStack, client: AsyncClient, number: int) -> str:
    """Submits a recording of its own: the same one would be computed once. Returns the id of the job."""
    path = stack.root / f"talk-{number}.wav"
    write_recording(path, AUDIO_SECONDS + number)
    return (await client.submit(path)).id


async def _segment_count(client: AsyncClient, job_id: str) -> int:
    return len([event async for event in client.watch(job_id) if isinstance(event, Segment)])


def _whole(follower: Follower, followers: list[Follower], expected: dict[str, int]) -> bool:
    """Whether each segment of the job came once, with the ids that all others have seen, and the job succeeded."""
    others = next(each for each in followers if each.job_id == follower.job_id)
    return (
        follower.state == "succeeded"
        and set(follower.segments.values()) == {1}
        and len(follower.segments) == expected[follower.job_id]
        and follower.segments == others.segments
    )
