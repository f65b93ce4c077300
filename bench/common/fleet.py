"""The stack with several gateways and model services, each a process that can be killed and started again."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil

from local_stack import HOST, TIMED_SERVICE, LocalStack, Part, free_ports


@dataclass
class Fleet(LocalStack):
    """``gateways`` gateways that share Redis and store, and ``workers`` of each model service behind all of them.

    With ``timed_seconds`` the model services have no models and take so long for each task.
    """

    gateways: int = 1
    workers: int = 1
    timed_seconds: float | None = None
    _ports: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        names = [*self._names("gateway", self.gateways), *self._names("transcriber", self.workers)]
        names += self._names("diarizer", self.workers)
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))

    @property
    def targets(self) -> list[str]:
        """Where the gateways are."""
        return [f"{HOST}:{self._ports[name]}" for name in self._names("gateway", self.gateways)]

    def parts(self) -> list[Part]:
        """All parts, each after those that it needs."""
        redis = [part for part in super().parts() if not part.is_service]
        return [*redis, *(self._worker(name) for name in self._ports if not name.startswith("gateway")), *self._gates()]

    def tasks(self, kind: str) -> list[tuple[float, float]]:
        """When the tasks of all timed services of a kind began and ended, in seconds of ``time.monotonic``."""
        logs = [self.root / f"{name}.tasks" for name in self._names(kind, self.workers)]
        lines = itertools.chain.from_iterable(log.read_text().splitlines() for log in logs if log.exists())
        return [(float(begun), float(ended)) for begun, ended in map(str.split, lines)]

    def rss(self) -> dict[str, int]:
        """RSS of each part with its child processes, in bytes."""
        found = dict.fromkeys(self.pids, 0)
        for name, pid in self.pids.items():
            part = psutil.Process(pid)
            for process in (part, *part.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):  # it has ended in the meantime
                    found[name] += process.memory_info().rss
        return found

    def signal_part(self, name: str, number: signal.Signals) -> None:
        """Sends one part a signal that does not end it."""
        os.kill(self.pids[name], number)

    def _gates(self) -> Iterator[Part]:
        for name in self._names("gateway", self.gateways):
            yield self.service(
                name,
                "gateway",
                self._ports[name],
                CARECA_PORT=str(self._ports[name]),
                CARECA_METRICS_PORT="-1",
                CARECA_STORE_DIR=str(self.root / "store" / name),
                CARECA_STORE_URL=(self.root / "shared").as_uri(),
                CARECA_TRANSCRIBER_TARGET=self._target("transcriber"),
                CARECA_DIARIZER_TARGET=self._target("diarizer"),
            )

    def _worker(self, name: str) -> Part:
        kind = name.partition("-")[0]
        settings = {"CARECA_PORT": str(self._ports[name]), "CARECA_METRICS_PORT": "-1"}
        if self.timed_seconds is None:
            return self.service(name, kind, self._ports[name], **settings)
        settings |= {"CARECA_TIMED_SECONDS": str(self.timed_seconds)}
        settings |= {"CARECA_TIMED_LOG": str(self.root / f"{name}.tasks")}
        part = self.service(name, kind, self._ports[name], **settings)
        return Part(
            part.name,
            part.port,
            [sys.executable, TIMED_SERVICE, kind],
            part.environment,
        )

    def _target(self, kind: str) -> str:
        addresses = ",".join(f"{HOST}:{self._ports[name]}" for name in self._names(kind, self.workers))
        return f"ipv4:{addresses}"

    @staticmethod
    def _names(kind: str, count: int) -> list[str]:
        return [f"{kind}-{number}" for number in range(1, count + 1)]
