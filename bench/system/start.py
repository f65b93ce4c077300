"""How long a model service takes from the start of its process until it accepts calls."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import grpc

from bench.system.results import ServiceStart
from careca.rpc.probe import check

Announce = Callable[[str], None]

STARTS = 5
QUICK_STARTS = 1
SERVICES = ("transcriber", "diarizer")

_HOST = "127.0.0.1"
_POLL_SECONDS = 0.01
_RECONNECT_MILLISECONDS = 20


class NotStartedError(Exception):
    """A service ended before it was ready."""


def measure(environment: Mapping[str, str], starts: int, announce: Announce) -> tuple[ServiceStart, ...]:
    """Starts each model service ``starts`` times, one after the other, and once more before that to fill file caches.

    The weights and the converted networks must be there. Raises ``NotStartedError``.
    """
    found = []
    for name in SERVICES:
        _start(name, environment)
        seconds = tuple(_start(name, environment) for _ in range(starts))
        announce(f"{name}: ready after {', '.join(f'{each:.2f} s' for each in seconds)}")
        found.append(ServiceStart(name, seconds, os.getloadavg()[0]))
    return tuple(found)


def _start(name: str, environment: Mapping[str, str]) -> float:
    """Returns the seconds until the service is ready, and stops it."""
    port = _free_port()
    settings = {**environment, "CARECA_HOST": _HOST, "CARECA_PORT": str(port), "CARECA_METRICS_PORT": "-1"}
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-m", f"careca_{name}"], env=settings, stderr=subprocess.DEVNULL) as process:
        try:
            while not _is_ready(port):
                if process.poll() is not None:
                    raise NotStartedError(f"the {name} ended with exit code {process.returncode}")
                time.sleep(_POLL_SECONDS)
            return time.perf_counter() - started
        finally:
            process.terminate()


def _is_ready(port: int) -> bool:
    options = [("grpc.enable_http_proxy", 0), ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MILLISECONDS)]
    ready, _ = check(grpc.insecure_channel(f"{_HOST}:{port}", options=options), "readiness", timeout_seconds=1.0)
    return ready


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((_HOST, 0))
        return int(listener.getsockname()[1])
