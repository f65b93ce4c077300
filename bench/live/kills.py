"""Live sessions while every process of the stack is killed again and again."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.common.chaos import Chaos
from bench.common.fleet import Fleet
from bench.common.harness import announce
from bench.common.report import Report
from bench.common.tables import table
from bench.live.playing import PIECE_SECONDS, settings_for
from careca.types import SAMPLE_BYTES, SAMPLE_RATE
from careca_client import AsyncClient
from careca_client.live import LiveEnded, LiveFinal, LiveReconnecting, LiveResult
from careca_gateway.live.audio import Encoding

SESSIONS = 100
ENDS = 20
SECONDS = 30.0
"""The length of each session."""
GATEWAYS = 2
TASK_SECONDS = 0.2
RETRIES = 1000


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a session."""

    job_id: str
    sent: str
    """The SHA-256 of the recording that was sent."""
    has_result: bool
    in_order: bool
    """Whether each final word came once, in order."""
    reconnections: int


async def measure_kills(report: Report) -> None:
    """Talks in many sessions at real time, while gateways, model services and both Redis are killed."""
    with (
        tempfile.TemporaryDirectory(prefix="careca-live-") as folder,
        Fleet(Path(folder), environment=settings_for(SESSIONS), timed_seconds=TASK_SECONDS, gateways=GATEWAYS) as stack,
    ):
        began = time.monotonic()
        chaos = Chaos(stack, signal.SIGKILL, ENDS, random.Random(1))
        async with AsyncClient(_any_of(stack.targets), retries=RETRIES) as client:
            async with asyncio.TaskGroup() as tasks:
                killing = tasks.create_task(chaos.run())
                talking = [tasks.create_task(_talk(client, chaos, number)) for number in range(SESSIONS)]
                await killing
                announce(f"all ends are done after {time.monotonic() - began:.0f} s; waiting for the sessions")
            outcomes = [each.result() for each in talking]
            # The recording of each job is that which was sent, to the last byte.
            jobs = [await client.job(each.job_id) for each in outcomes]
    whole = sum(each.has_result and job.recording.sha256 == each.sent for each, job in zip(outcomes, jobs, strict=True))
    in_order = sum(each.in_order for each in outcomes)
    report.limit(
        f"sessions whose result is that of what was sent, while {chaos.ends} processes are killed",
        str(SESSIONS),
        str(whole),
        met=whole == SESSIONS,
    )
    report.limit(
        "sessions that told each final word once, in order", str(SESSIONS), str(in_order), met=in_order == SESSIONS
    )
    rows = [[str(SESSIONS), str(chaos.ends), str(sum(each.reconnections for each in outcomes))]]
    report.tables.append(table(["sessions", "processes killed", "connections that were continued"], rows))


def _any_of(targets: Sequence[str]) -> str:
    """Returns a target for the first gateway that can be reached."""
    return "ipv4:" + ",".join(targets)


async def _talk(client: AsyncClient, chaos: Chaos, number: int) -> _Outcome:
    """Talks in one session, once so much of the killing is done."""
    while chaos.progress < 0.9 * number / SESSIONS:  # noqa: ASYNC110 -- nothing tells when a process has ended
        await asyncio.sleep(0.1)
    data = np.random.default_rng(number).integers(-9000, 9000, round(SECONDS * SAMPLE_RATE), np.int16).tobytes()
    size = round(PIECE_SECONDS * SAMPLE_RATE) * SAMPLE_BYTES
    words = reconnections = 0
    in_order = True
    job_id = ""
    has_result = False
    async with client.live(interim_results=False) as session:

        async def speak() -> None:
            began = time.monotonic()
            for position in range(0, len(data), size):
                await asyncio.sleep(max(0.0, began + position / SAMPLE_BYTES / SAMPLE_RATE - time.monotonic()))
                await session.send(data[position : position + size])
            await session.end()

        speaking = asyncio.create_task(speak())
        async for event in session:
            match event:
                case LiveFinal(words=found, first_word=first):
                    in_order = in_order and first == words
                    words += len(found)
                case LiveReconnecting():
                    reconnections += 1
                case LiveEnded():
                    job_id = event.job_id
                case LiveResult():
                    has_result = True
        await speaking
    header = Encoding("pcm_s16le", 1, SAMPLE_BYTES, SAMPLE_RATE).wav_header(len(data))
    sent = hashlib.sha256(header + data).hexdigest()
    return _Outcome(job_id, sent, has_result, in_order and words > 0, reconnections)
