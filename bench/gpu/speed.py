"""Seconds for an hour of audio, and GPU memory, of one task or of both at the same time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.gpu.engines import Running, Task, running
from bench.gpu.memory import ReadMemory, watched
from bench.gpu.speech import Samples, repeated, streams
from careca.types import SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds for an hour of audio: of one long recording, of all streams at once, and of these one after the other."""

    one: float
    at_once: float
    in_turn: float

    @property
    def gain(self) -> float:
        """Throughput of all streams at once over that of one after the other."""
        return self.in_turn / self.at_once


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes in use on the GPU; ``None`` without one."""

    before: int | None
    loaded: int | None
    peak: int | None
    after: int | None
    """After the last task; the models are loaded."""
    unloaded: int | None

    def of_engines(self, used: int | None) -> int | None:
        """``used`` without what others use."""
        return None if used is None or self.before is None else used - self.before

    def lower(self, used: int | None) -> float | None:
        """By how much ``used`` is lower than the peak, as a fraction of the peak, both without what others use."""
        peak, left = self.of_engines(self.peak), self.of_engines(used)
        return 1 - left / peak if peak and left is not None else None


def measure(
    tasks: Sequence[Task], speech: Samples, seconds: float, device: str, models: Path, read: ReadMemory
) -> tuple[Speed, Memory]:
    """Measures ``tasks`` at the same time, each with its engine. Raises what the engines raise."""
    long, short = [repeated(speech, seconds)], streams(speech, seconds)
    before = read()
    with watched(read) as peak:
        with ExitStack() as stack:
            engines = [stack.enter_context(running(task, speech, device=device, models_dir=models)) for task in tasks]
            loaded = read()
            one = _at_once(engines, long)
            at_once = _at_once(engines, short)
            in_turn = sum(_at_once(engines, [each]) for each in short)
            after = read()
        unloaded = read()
    speed = Speed(one / _hours(long), at_once / _hours(short), in_turn / _hours(short))
    return speed, Memory(before, loaded, peak.bytes, after, unloaded)


def _at_once(engines: Sequence[Running], recordings: Sequence[Samples]) -> float:
    """Returns the seconds in which all engines infer all recordings, each in a thread with a submitter of its own."""
    with ThreadPoolExecutor(len(engines) * len(recordings)) as threads:
        began = time.perf_counter()
        waiting = [
            threads.submit(engine.infer, samples, f"{number}")
            for number, samples in enumerate(recordings)
            for engine in engines
        ]
        for each in waiting:
            each.result()
        return time.perf_counter() - began


def _hours(recordings: Sequence[Samples]) -> float:
    return sum(len(samples) for samples in recordings) / SAMPLE_RATE / 3600
