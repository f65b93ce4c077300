"""The stack that damaged requests are sent to, without models, and what is looked at before and after."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import psutil

from local_stack import HOST, TIMED_SERVICE, LocalStack, Part

SERVICES = ("gateway", "transcriber", "diarizer")
"""Those with gRPC."""

PROCESSES = (*SERVICES, "web")

MOST_GROWTH_BYTES = 48 << 20
"""Memory of its own that a service may have gained: what the C library keeps in reserve, not more with more calls."""

MOST_DESCRIPTORS = 3
"""Descriptors that a service may have gained, those to Redis apart: connections that are just being closed."""

RETENTION_SECONDS = 20.0
"""How long a recording stays that nobody uses: short, so that the store is seen to be empty in the end."""

QUIET_SECONDS = 240.0
"""How long the services get to come to rest."""

IDLE_SECONDS = 1.0
"""How long a request over HTTP may send nothing: damaged ones often promise more than they send."""

WORK = re.compile(
    r"^careca_(work_in_flight|work_waiting|jobs_in_flight|http_requests_in_flight|http_event_streams) (\S+)$",
    re.MULTILINE,
)

# gRPC's core writes by itself, in a form of its own, about connections that end in strange ways.
CORE_LINE = re.compile(r"^([IWEF]\d{4} |WARNING: All log messages before absl::InitializeLog)")


class ModellessStack(LocalStack):
    """All processes of the one-machine stack, the model services with engines that take no time and find little."""

    def parts(self) -> list[Part]:
        """All parts, each after those that it needs."""
        return [self._modelless(part) if part.name in SERVICES[1:] else part for part in super().parts()]

    def service_environment(self, name: str) -> dict[str, str]:
        """As ever, with temporary files where they can be counted."""
        temporary = self.root / "tmp" / name
        temporary.mkdir(parents=True, exist_ok=True)
        return {
            **super().service_environment(name),
            "TMPDIR": str(temporary),
            "CARECA_TIMED_SECONDS": "0",
            "CARECA_STORE_RETENTION_SECONDS": str(RETENTION_SECONDS),
            "CARECA_UPLOADS_RETENTION_SECONDS": str(RETENTION_SECONDS),
            "CARECA_HEADER_SECONDS": str(IDLE_SECONDS),
            "CARECA_BODY_IDLE_SECONDS": str(IDLE_SECONDS),
            "CARECA_LOG_FORMAT": "json",
        }

    def target(self, service: str) -> str:
        """Where a service is."""
        return f"{HOST}:{getattr(self.ports, service)}"

    def metrics(self, service: str) -> str:
        """What a service tells Prometheus."""
        url = f"http://{HOST}:{getattr(self.ports, f'{service}_metrics')}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return str(answer.read().decode())

    def log_lines(self, service: str) -> list[bytes]:
        """What a service has logged."""
        return (self.root / "logs" / f"{service}.log").read_bytes().splitlines()

    def leftovers(self) -> list[str]:
        """Files that should have been removed: temporary ones, drafts, results of jobs that are gone, recordings."""
        folders = [
            self.root / "tmp",
            self.root / "uploads",
            *(self.root / "store" / name for name in ("drafts", "recordings", "audio", "decoded")),
        ]
        folders.append(self.root / "store" / "jobs" / "results")
        return [str(path.relative_to(self.root)) for folder in folders for path in folder.rglob("*") if path.is_file()]

    def _modelless(self, part: Part) -> Part:
        command = [sys.executable, TIMED_SERVICE, part.name]
        return Part(part.name, part.port, command, part.environment)


@dataclass(frozen=True, slots=True)
class Vitals:
    """What one process holds."""

    rss_bytes: int
    uss_bytes: int
    descriptors: int
    """Open ones, but for the connections to Redis."""
    threads: int
    children: int
    work: float
    """Everything that its gauges of work in flight and waiting say, together."""


def vitals(stack: ModellessStack, service: str) -> Vitals:
    """What a service holds now. Raises ``psutil.NoSuchProcess`` where it is dead."""
    process = psutil.Process(stack.pids[service])
    memory = process.memory_full_info()
    return Vitals(
        rss_bytes=memory.rss,
        uss_bytes=memory.uss,
        descriptors=process.num_fds() - _connections_to_redis(stack, process),
        threads=process.num_threads(),
        children=len(process.children()),
        work=sum(float(value) for _, value in WORK.findall(stack.metrics(service))),
    )


def _connections_to_redis(stack: ModellessStack, process: psutil.Process) -> int:
    """As many as were ever needed at once stay open: no more than there are calls at once."""
    redis = {stack.ports.redis, stack.ports.jobs_redis}
    return sum(bool(each.raddr) and each.raddr.port in redis for each in process.net_connections("tcp"))


async def at_rest(stack: ModellessStack, before: Mapping[str, Vitals] | None = None) -> dict[str, Vitals]:
    """What the services hold once they work on nothing and hold no more descriptors than before, or when time is up."""
    end = time.monotonic() + QUIET_SECONDS
    while True:
        await asyncio.sleep(2.0)
        now = {service: await asyncio.to_thread(vitals, stack, service) for service in PROCESSES}
        if time.monotonic() > end or not list(troubles(before or now, now)):
            return now


def troubles(before: Mapping[str, Vitals], after: Mapping[str, Vitals]) -> Iterator[str]:
    """What each service holds that it should have let go."""
    for service, now in after.items():
        was = before[service]
        if now.uss_bytes - was.uss_bytes > MOST_GROWTH_BYTES:
            yield f"{service} has grown by {(now.uss_bytes - was.uss_bytes) >> 20} MiB"
        if now.descriptors > was.descriptors + MOST_DESCRIPTORS:
            yield f"{service} holds {now.descriptors} descriptors, {was.descriptors} before"
        if now.children > was.children or now.work:
            yield f"{service} still works: {now.children} processes, {now.work:g} in flight or waiting"


def complaints(lines: list[bytes], secrets: Sequence[str] = ()) -> Iterator[str]:
    """Lines of a service's log that say that something was not foreseen, are no lines of its own, or tell secrets."""
    for line in lines:
        if any(secret.encode() in line for secret in secrets):
            yield "a secret is in the log"
        try:
            entry = json.loads(line)
        except ValueError:
            if not CORE_LINE.match(line.decode(errors="replace")):
                yield f"not a line of ours: {line!r:.300}"
            continue
        if entry.get("level") in ("error", "critical") or "exception" in entry:
            yield f"{entry.get('event')}: {entry.get('exception', '')[-600:]}"
