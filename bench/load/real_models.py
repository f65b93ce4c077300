"""A small run with the real models: a few callers of both kinds, how fast they are served, and the memory it leaves."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from bench.common import audio, dataset
from bench.common.fleet import Fleet
from bench.common.harness import announce
from bench.common.tables import mebibytes, table
from bench.load.arrivals import Asked, answered, ask_once, latencies
from bench.load.callers import Callers
from careca_client import AsyncClient

MODEL = "whisper-tiny.en"
CLIP_SECONDS = 15.0
CLIPS = 12
"""Recordings of each kind of request."""

CALLERS = 2


async def measure() -> tuple[str, int]:
    """Tables of both kinds of requests and of the processes' memory afterwards, and how many requests failed."""
    with tempfile.TemporaryDirectory(prefix="careca-load-") as name:
        clips = _cut(Path(name))
        environment = {"CARECA_WHISPER_MODEL": MODEL}
        stack = Fleet(Path(name) / "stack", environment=environment)
        try:
            await asyncio.to_thread(stack.start)
            async with AsyncClient(stack.targets[0]) as client:
                before = _memory(stack)
                rows = [await _serve(Callers(client, clips[:CLIPS]), "one call")]
                rows.append(await _serve(Callers(client, clips[CLIPS:]), "job"))
                await asyncio.sleep(3.0)  # the gateway cleans up when it has had a second's peace
                after = _memory(stack)
        finally:
            await asyncio.to_thread(stack.stop)
    head = [
        f"{MODEL}, {CLIPS} recordings of {CLIP_SECONDS:.0f} s, {CALLERS} callers",
        "requests/s",
        "RTF",
        "p50",
        "p95",
        "failed",
    ]
    memory = [[part, mebibytes(before[part]), mebibytes(after[part])] for part in after]
    text = table(head, rows) + "\n\n" + table(["RSS, with child processes", "at start", "after"], memory)
    return text, sum(int(row[-1]) for row in rows)


async def _serve(load: Callers, kind: str) -> list[str]:
    """Asks for each clip once, by so many callers at once."""
    ask = load.transcribe if kind == "one call" else load.submit
    numbers = iter(range(len(load.clips)))
    asked: list[Asked] = []

    async def call() -> None:
        asked.extend([await ask_once(ask, number, time.monotonic()) for number in numbers])

    began = time.monotonic()
    await asyncio.gather(*(call() for _ in range(CALLERS)))
    took = time.monotonic() - began
    announce(f"real models, {kind}: {took:.0f} s")
    done = len(answered(asked))
    rtf = took / (CLIP_SECONDS * len(load.clips))
    return [kind, f"{done / took:.2f}", f"{rtf:.3f}", *latencies(asked)[:2], str(len(asked) - done)]


def _cut(folder: Path) -> list[Path]:
    """Twice as many different recordings as each kind of request needs."""
    paths = [folder / f"clip-{number}.flac" for number in range(2 * CLIPS)]
    for piece, path in zip(audio.pieces(dataset.speech()[:4], [CLIP_SECONDS] * len(paths)), paths, strict=True):
        audio.write_flac(piece, path)
    return paths


def _memory(stack: Fleet) -> dict[str, int]:
    """RSS of each service with its child processes, in bytes."""
    return {name: rss for name, rss in stack.rss().items() if not name.endswith("redis")}
