"""The scheduler with a simulated device: batches move a clock and nothing is computed. No figure here is a measurement.

The device is like one GPU: a batch takes a fixed time and a little for each item.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.common.report import Report
from bench.common.tables import seconds, table
from careca.inference.engine import Batch, Work
from careca.inference.scheduler import Ended, Scheduler
from careca.types import Scheduling, SchedulingClass

BATCH_SECONDS = 0.4
"""What a batch takes whatever is in it."""

CLIP_SECONDS = 0.05
"""What each clip of 30 s takes in addition."""

MOST = 16
LISTENING_SECONDS = 0.01
"""What each minute of voice detection takes; it runs on the processor and is never faster together."""

RECORDINGS = 16
GOAL = 3.0
_SEED = 7


@dataclass
class Device:
    """The simulated device with its scheduler."""

    share: bool
    now: float = 0.0
    ended: dict[str, float] = field(default_factory=dict)
    """When requests ended, in that order."""

    def __post_init__(self) -> None:
        self._names: list[str] = []
        self.scheduler = Scheduler(share=self.share, clock=lambda: self.now)

    def add(self, name: str, audio_seconds: float, scheduling: Scheduling | None = None) -> None:
        """Adds a request for a recording."""
        self._names.append(name)
        self.scheduler.add(len(self._names) - 1, self._work(audio_seconds), scheduling or Scheduling())

    def run(self, until: float = math.inf) -> None:
        """Computes until all requests have ended, or until a time."""
        while len(self.scheduler) and self.now < until:
            for number, occurrence in self.scheduler.step():
                if isinstance(occurrence, Ended):
                    self.ended[self._names[number]] = self.now

    def _work(self, audio_seconds: float) -> Work[None]:
        for _ in range(math.ceil(audio_seconds / 60)):
            yield Batch.alone(self._listen)
        clips = math.ceil(audio_seconds / 30)
        for first in range(0, clips, MOST):
            yield Batch("read", range(first, min(first + MOST, clips)), self._read, MOST)

    def _listen(self) -> None:
        self.now += LISTENING_SECONDS

    def _read(self, clips: Sequence[int]) -> Sequence[int]:
        self.now += BATCH_SECONDS + CLIP_SECONDS * len(clips)
        return clips


async def measure(report: Report) -> None:
    """Many short recordings at once, and a mixture of everything."""
    draw = random.Random(_SEED)
    lengths = [draw.uniform(20, 60) for _ in range(RECORDINGS)]
    one_by_one, together = (_throughput(lengths, share=share) for share in (False, True))
    times = one_by_one / together
    report.limit(
        f"*Simulated*: throughput of {RECORDINGS} recordings of 20 to 60 s at once, over one after the other",
        f"at least {GOAL:g}",
        f"{times:.1f}",
        met=times >= GOAL,
    )
    report.tables.append(_order())


def _throughput(lengths: Sequence[float], *, share: bool) -> float:
    """Returns when all are done."""
    device = Device(share=share)
    for number, length in enumerate(lengths):
        device.add(f"{number}", length)
    device.run()
    return device.now


def _order() -> str:
    """A table of mixed work: who came when, and when it ended."""
    batch = SchedulingClass.BATCH
    arrivals = [
        (0.0, "12 h archive", 43_200.0, Scheduling(batch, "archive")),
        (0.0, "1 h meeting", 3600.0, Scheduling(batch, "ana")),
        (2.0, "10 min interview, interactive", 600.0, Scheduling(submitter="ben")),
        (2.5, "9 s voice note, interactive", 9.0, Scheduling(submitter="carla")),
        (3.0, "20 s voice note, interactive", 20.0, Scheduling(submitter="ben")),
        (3.5, "2 min memo", 120.0, Scheduling(batch, "ana")),
    ]
    device = Device(share=True)
    for at, name, audio_seconds, scheduling in arrivals:
        device.run(until=at)
        device.now = max(device.now, at)
        device.add(name, audio_seconds, scheduling)
    device.run()
    came = {name: at for at, name, *_ in arrivals}
    rows = [[name, seconds(came[name]), seconds(at - came[name])] for name, at in device.ended.items()]
    return table(["mixed work, *simulated*, in the order of its end", "comes after", "takes"], rows)
