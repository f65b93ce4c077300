"""The stack under load: replicas that only take time, clients that spread over the gateways, and what they ask."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from bench.common import audio
from bench.common.fleet import Fleet
from bench.common.harness import announce
from bench.load.callers import Callers
from careca.types import SAMPLE_RATE
from careca_client import AsyncClient
from local_stack import Part

TASK_SECONDS = 0.5
"""What each task takes at either model service."""

CLIPS = 96
"""Different recordings: the same one twice at once would be computed once. At the highest load, one comes again after
longer than any request takes."""

QUEUED_JOBS = 100
"""Jobs that may wait, so few that too many of them are refused before the measurement is over."""

_SETTINGS = {"CARECA_REDIS_URL": "", "CARECA_MAX_QUEUED_JOBS": str(QUEUED_JOBS), "CARECA_LOG_FORMAT": "json"}


@dataclass
class Load(Callers):
    """A running stack, a client of all its gateways, and recordings that they know."""

    stack: Fleet = field(kw_only=True)

    def part(self, name: str) -> Part:
        """The part of that name."""
        return next(part for part in self.stack.parts() if part.name == name)

    async def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends a part and waits until it is gone."""
        await asyncio.to_thread(self.stack.end_part, name, how)

    async def start(self, name: str) -> None:
        """Starts a part and waits until it is ready."""
        part = self.part(name)
        self.stack.start_part(part)
        await asyncio.to_thread(self.stack.wait_until_ready, part)

    def begun(self, name: str) -> list[float]:
        """When the tasks of one timed service began, on the clock of ``time.monotonic``."""
        log = self.stack.root / f"{name}.tasks"
        return [float(line.split()[0]) for line in log.read_text().splitlines()] if log.exists() else []

    def logged(self, event: str, **values: object) -> list[float]:
        """When the gateways logged ``event`` with these values, on the clock of ``time.monotonic``."""
        logs = [path.read_text().splitlines() for path in (self.stack.root / "logs").glob("gateway-*.log")]
        lines = [json.loads(line) for log in logs for line in log if line.startswith("{")]
        found = [line for line in lines if line["event"] == event and values.items() <= line.items()]
        offset = time.monotonic() - time.time()
        return [datetime.fromisoformat(line["timestamp"]).timestamp() + offset for line in found]


@asynccontextmanager
async def loaded(
    *,
    workers: int,
    task_seconds: float = TASK_SECONDS,
    create: Callable[..., Fleet] = Fleet,
) -> AsyncIterator[Load]:
    """Two gateways and timed services that cache nothing; all recordings are decoded."""
    with tempfile.TemporaryDirectory(prefix="careca-load-") as name:
        stack = create(
            Path(name) / "stack",
            environment=_SETTINGS,
            gateways=2,
            workers=workers,
            timed_seconds=task_seconds,
        )
        try:
            await asyncio.to_thread(stack.start)
            async with AsyncClient("ipv4:" + ",".join(stack.targets)) as client:
                load = Load(client, _noises(Path(name)), stack=stack)
                await _decode(load)
                yield load
        finally:
            await asyncio.to_thread(stack.stop)


def _noises(folder: Path) -> list[Path]:
    """Recordings of half a second: nobody listens to them."""
    chance = np.random.default_rng(1)
    paths = [folder / f"clip-{number}.flac" for number in range(CLIPS)]
    for path in paths:
        audio.write_flac(chance.integers(-1000, 1000, SAMPLE_RATE // 2).astype(np.int16), path)
    return paths


async def _decode(load: Load) -> None:
    """Has each recording uploaded and decoded, so that what is measured later is neither."""
    numbers = iter(range(len(load.clips)))

    async def work() -> None:
        for number in numbers:
            await load.transcribe(number)

    began = time.monotonic()
    await asyncio.gather(*(work() for _ in range(8)))
    announce(f"{len(load.clips)} recordings are known after {time.monotonic() - began:.0f} s")


class NamedFleet(Fleet):
    """A ``Fleet`` whose model services are behind names, one address for each replica, that change.

    The gateways run where a file of ours stands in for ``/etc/hosts``: other than by their own resolver they learn of
    nothing. ``available`` says whether this machine allows that.
    """

    @staticmethod
    def available() -> bool:
        """Whether a process can have an ``/etc/hosts`` of its own here."""
        if not shutil.which("unshare"):
            return False
        done = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"],
            capture_output=True,
            check=False,
        )
        return done.returncode == 0

    def name_replicas(self, count: int) -> None:
        """Has the names lead to the first ``count`` replicas of each kind."""
        lines = ["127.0.0.1 localhost"]
        for kind in ("transcriber", "diarizer"):
            lines += [f"{_address(number)} {kind}.careca.test" for number in range(1, count + 1)]
        # The same file with other content: another one would not be the one that stands in.
        self._hosts.write_text("\n".join(lines) + "\n")

    @property
    def _hosts(self) -> Path:
        return self.root / "hosts"

    def start(self) -> None:
        """As a fleet, with one replica of each kind behind its name."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.name_replicas(1)
        super().start()

    def _worker(self, name: str) -> Part:
        kind, _, number = name.partition("-")
        part, host, port = super()._worker(name), _address(int(number)), self._ports[f"{kind}-1"]
        return replace(
            part,
            host=host,
            port=port,
            environment={**part.environment, "CARECA_HOST": host, "CARECA_PORT": str(port)},
        )

    def _gates(self) -> Iterator[Part]:
        command = f'mount --bind "{self._hosts}" /etc/hosts && exec "$@"'
        for part in super()._gates():
            yield replace(
                part, command=["unshare", "--map-root-user", "--mount", "sh", "-c", command, "sh", *part.command]
            )

    def _target(self, kind: str) -> str:
        return f"dns:///{kind}.careca.test:{self._ports[f'{kind}-1']}"


def _address(number: int) -> str:
    return f"127.0.0.{10 + number}"
