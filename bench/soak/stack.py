"""The stack under soak: several of each service, with TLS, tokens, small limits, a small disk and own clocks."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.common.fleet import Fleet
from bench.soak.clocks import Clocks, clocks_can_step
from bench.soak.secrets import Certificates, Tokens
from careca.auth.caller import Role
from local_stack import HOST, Part, free_ports

USERS = ("ana", "bo")
OPERATOR = "ops"

DISK_BYTES = 512 << 20
"""The small disk: room for what comes in 15 minutes, which a shared store keeps in any case, and for the 64 MiB that
uploads must leave."""

MAX_RECORDING_BYTES = 4 << 20

_LIMITS = {
    "CARECA_STORE_MAX_BYTES": str(6 << 20),
    "CARECA_STORE_RETENTION_SECONDS": "240",
    "CARECA_JOB_RETENTION_SECONDS": "120",
    "CARECA_CACHE_TTL_SECONDS": "20",
    "CARECA_CACHE_MAX_ENTRIES": "30",
    "CARECA_UPLOADS_MAX_BYTES": str(64 << 20),
    "CARECA_UPLOADS_RETENTION_SECONDS": "30",
    "CARECA_SESSION_SECONDS": "30",
    "CARECA_LIVE_IDLE_SECONDS": "5",
    "CARECA_MAX_RECORDING_BYTES": str(MAX_RECORDING_BYTES),
    "CARECA_MAX_QUEUED_JOBS": "60",
    "CARECA_MAX_REQUESTS": "8",
    "CARECA_MAX_WAITING": "6",
    "CARECA_DRAIN_SECONDS": "10",
    "CARECA_DECODERS": "2",
    "CARECA_LOG_FORMAT": "json",
    "CARECA_TIMED_TALK": "1",
}
"""A week's worth of eviction, expiry and refusal in an hour."""


@dataclass
class SoakStack(Fleet):
    """``replicas`` gateways, web services, transcribers and diarizers, and both Redis.

    A web service calls the gateway of its number. What the services write, but for Redis and logs, is in ``disk``.
    """

    replicas: int = 2
    disk: Path = field(default_factory=Path)
    certificates: Certificates = field(init=False)
    tokens: Tokens = field(init=False)
    clocks: Clocks | None = field(default=None, init=False)
    """``None`` where clocks cannot step."""
    _more_ports: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.gateways = self.workers = self.replicas
        super().__post_init__()
        self.environment = {**_LIMITS, **self.environment}
        webs = self._names("web", self.replicas)
        names = [*webs, *(f"{name} metrics" for name in self.services), *(f"{name} health" for name in self._ports)]
        self._more_ports = dict(zip(names, free_ports(len(names)), strict=True))
        secrets = self.root / "secrets"
        self.certificates = Certificates(secrets, self.services)
        self.tokens = Tokens(secrets / "tokens.toml", {**dict.fromkeys(USERS, Role.USER), OPERATOR: Role.ADMIN})
        (secrets / "session.key").write_text(os.urandom(32).hex())
        if clocks_can_step():
            self.clocks = Clocks(self.root / "clocks")

    @property
    def services(self) -> list[str]:
        """The names of all parts but Redis."""
        return [*self._ports, *self._names("web", self.replicas)]

    @property
    def web_urls(self) -> list[str]:
        """Where HTTP callers call."""
        return [f"https://{HOST}:{self._more_ports[name]}" for name in self._names("web", self.replicas)]

    def tls_port(self, name: str) -> int:
        """Where a service has TLS."""
        return self._ports.get(name) or self._more_ports[name]

    def metrics(self, name: str) -> str:
        """What a service tells Prometheus."""
        url = f"http://{HOST}:{self._more_ports[f'{name} metrics']}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return str(answer.read().decode())

    def part(self, name: str) -> Part:
        """The part of that name."""
        return next(part for part in self.parts() if part.name == name)

    def parts(self) -> list[Part]:
        """All parts, each after those that it needs."""
        webs = [self._web(name) for name in self._names("web", self.replicas)]
        parts = (*super().parts(), *webs)
        return [self._with_clock(self._secured(part) if part.is_service else part) for part in parts]

    def wait_until_ready(self, part: Part) -> None:
        """Returns when the part can be used. Raises ``StackError``."""
        if part.name.startswith("web"):
            self._wait_for(part.name, lambda: self._answers(part))
            self.announce(f"{part.name} ready")
        else:
            super().wait_until_ready(part)

    def _answers(self, web: Part) -> bool:
        try:
            url = f"https://{HOST}:{web.port}/readyz"
            with urllib.request.urlopen(url, timeout=5, context=self.certificates.context):
                return True
        except OSError:
            return False

    def _with_clock(self, part: Part) -> Part:
        if self.clocks is None:
            return part
        return replace(part, environment={**part.environment, **self.clocks.environment(part.name)})

    def _web(self, name: str) -> Part:
        return self.service(name, "web", self._more_ports[name], CARECA_PORT=str(self._more_ports[name]))

    def _secured(self, part: Part) -> Part:
        """The service with TLS and tokens, and its files on the small disk."""
        kind, _, number = part.name.partition("-")
        own = self.certificates.folder(part.name)
        temporary = self.disk / "tmp" / part.name
        temporary.mkdir(parents=True, exist_ok=True)
        settings = {
            "TMPDIR": str(temporary),
            "CARECA_TLS_CERT_FILE": str(own / "tls.pem"),
            "CARECA_TLS_KEY_FILE": str(own / "tls.key"),
            "CARECA_METRICS_PORT": str(self._more_ports[f"{part.name} metrics"]),
        }
        match kind:
            case "gateway":
                settings |= {
                    "CARECA_TOKENS_FILE": str(self.tokens.path),
                    "CARECA_SERVICES_CA_FILE": str(own / "tls-ca.pem"),
                    "CARECA_SERVICES_CERT_FILE": str(own / "tls.pem"),
                    "CARECA_SERVICES_KEY_FILE": str(own / "tls.key"),
                    "CARECA_STORE_DIR": str(self.disk / "store" / part.name),
                    "CARECA_STORE_URL": (self.disk / "shared").as_uri(),
                }
            case "web":
                settings |= {
                    "CARECA_GATEWAY_TARGET": self.targets[int(number) - 1],
                    "CARECA_GATEWAY_CA_FILE": str(own / "tls-ca.pem"),
                    "CARECA_SESSION_KEY_FILE": str(self.root / "secrets" / "session.key"),
                    "CARECA_UPLOADS_DIR": str(self.disk / "uploads" / part.name),
                }
            case _:
                settings |= {"CARECA_TLS_CLIENT_CA_FILE": str(own / "tls-ca.pem")}
        secured = replace(part, environment={**part.environment, **settings})
        if kind == "web":
            return secured
        health = self._more_ports[f"{part.name} health"]  # without TLS: there readiness is asked for
        return replace(secured, port=health, environment={**secured.environment, "CARECA_HEALTH_PORT": str(health)})


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mounts a file system of ``DISK_BYTES`` at ``folder``. Yields whether that was possible: it needs root."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "careca-soak", str(folder)]
    can_mount = shutil.which("mount") is not None
    mounted = can_mount and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
