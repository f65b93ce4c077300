"""What happens to the stack while it works: restarts, replaced secrets, steps of clocks, and a full disk."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import ssl
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.common.harness import announce
from bench.load.arrivals import arrivals
from bench.soak.callers import patiently
from bench.soak.stack import USERS, SoakStack
from careca.errors import Unauthenticated
from careca_client import Access, AsyncClient
from local_stack import HOST, StackError

ALWAYS = "load"
"""The cause that is there all the time: more work than there is capacity, a small store, and callers' mistakes."""

RESTART, CACHE_REDIS, JOBS_REDIS, CERTIFICATES, TOKENS, CLOCK, DISK = (
    "a service is restarted",
    "the Redis of the caches is restarted",
    "the Redis of the jobs is restarted",
    "certificates are replaced",
    "tokens are replaced",
    "clocks step",
    "the disk is full",
)

PERIODS = {
    RESTART: 40.0,
    CACHE_REDIS: 180.0,
    JOBS_REDIS: 180.0,
    CERTIFICATES: 30.0,
    TOKENS: 60.0,
    CLOCK: 90.0,
    DISK: 120.0,
}
"""How often each happens: once in so many seconds, at random moments. Once at least."""

GRACE_SECONDS = 15.0
"""How long after a disturbance its consequences may still be seen: callers wait up to 5 s before they try again, and
the other gateways notice within 3 s that one is gone."""

CLOCK_SECONDS = (10.0, 90.0)
"""The smallest and the largest step of a clock."""

RENEWED_SECONDS = 60.0
"""How long a new certificate may be left unused: the web service looks for one every 10 s, and others at each new
connection. A service that is restarted meanwhile uses it from its start."""

_NEARLY_FULL_BYTES = 32 << 20
"""What is left on a disk that is nearly full: less than uploads must leave."""


class Disturbances:
    """Makes all disturbances, and remembers when.

    Of each service, the last process is the one that is restarted: the others show what grows over the whole run.
    """

    def __init__(self, stack: SoakStack, chance: random.Random, causes: Collection[str]) -> None:
        self._stack = stack
        self._chance = chance
        self._causes = causes
        self._spans: dict[str, list[list[float]]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self._make: dict[str, Callable[[], Awaitable[None]]] = {
            RESTART: self._restart_service,
            CACHE_REDIS: lambda: self._restart("redis"),
            JOBS_REDIS: lambda: self._restart("jobs_redis"),
            CERTIFICATES: self._replace_certificates,
            TOKENS: self._replace_tokens,
            CLOCK: self._step_clocks,
            DISK: self._fill_disk,
        }

    async def run(self, duration: float) -> None:
        """Returns when all disturbances of so many seconds are over."""
        async with asyncio.TaskGroup() as tasks:
            for cause in self._causes:
                tasks.create_task(self._repeat(cause, duration))

    def explain(self, causes: Collection[str], begin: float, end: float) -> bool:
        """Whether one of the causes was there between two moments of ``time.monotonic``."""
        return ALWAYS in causes or any(
            span[0] <= end and begin <= span[1] + GRACE_SECONDS for cause in causes for span in self._spans[cause]
        )

    async def _repeat(self, cause: str, duration: float) -> None:
        began = time.monotonic()
        rate = max(1.0, duration / PERIODS[cause]) / duration
        # Nothing begins so late that its end would not be seen.
        for moment in arrivals(rate, 0.8 * duration, self._chance.getrandbits(32)) or [0.4 * duration]:
            await asyncio.sleep(began + moment - time.monotonic())
            with self._during(cause):
                await self._make[cause]()
            self.counts[cause] += 1

    @contextmanager
    def _during(self, cause: str) -> Iterator[None]:
        span = [time.monotonic(), float("inf")]
        self._spans[cause].append(span)
        try:
            yield
        finally:
            span[1] = time.monotonic()

    async def _restart_service(self) -> None:
        kind = self._chance.choice(["gateway", "transcriber", "diarizer", "web"])
        await self._restart(f"{kind}-{self._stack.replicas}")

    async def _restart(self, name: str) -> None:
        how = self._chance.choice([signal.SIGTERM, signal.SIGKILL])
        announce(f"{name} gets {how.name}")
        await asyncio.to_thread(self._stack.end_part, name, how)
        if how is signal.SIGTERM and self._stack.exit_codes[name]:
            self.faults.append(f"{name} ended with status {self._stack.exit_codes[name]} after SIGTERM")
        await asyncio.sleep(self._chance.uniform(0.0, 2.0))
        part = self._stack.part(name)
        while True:
            began = time.monotonic()
            self._stack.start_part(part)
            try:
                await asyncio.to_thread(self._stack.wait_until_ready, part)
            except StackError:
                # It cannot start while the disk is full. Kubernetes would start it again too.
                if not self.explain({DISK}, began, time.monotonic()):
                    raise
                await asyncio.sleep(1.0)
            else:
                return

    async def _replace_certificates(self) -> None:
        """Replaces a certificate. New connections must get it soon."""
        name = self._chance.choice(self._stack.services)
        await asyncio.to_thread(self._stack.certificates.issue, name)
        new, deadline = self._stack.certificates.current(name), time.monotonic() + RENEWED_SECONDS
        while time.monotonic() < deadline:
            await asyncio.sleep(1.0)
            with suppress(OSError):  # it is restarted just now
                if await asyncio.to_thread(_certificate_at, self._stack.tls_port(name)) == new:
                    return
        self.faults.append(f"{name} does not use its new certificate after {RENEWED_SECONDS:.0f} s")

    async def _replace_tokens(self) -> None:
        """Adds a new token, and removes the one before once nobody uses it. It must be refused then."""
        tokens = self._stack.tokens
        tokens.replace(self._chance.choice(USERS))
        await asyncio.sleep(self._chance.uniform(1.0, 5.0))
        for token in tokens.remove_unused():
            target = self._stack.targets[0]
            access = Access(token=token, ca_file=self._stack.certificates.authority)
            async with AsyncClient(target, access=access) as client:
                try:
                    await patiently(client.info)
                except Unauthenticated:
                    continue
            self.faults.append("a token that was removed is still accepted")

    async def _step_clocks(self) -> None:
        """Sets the clocks of one process, or of all, forwards or backwards for a while, and back."""
        clocks = self._stack.clocks
        assert clocks is not None
        every = [*self._stack.services, "redis", "jobs_redis"]
        names = every if self._chance.random() < 0.5 else [self._chance.choice(every)]
        seconds = self._chance.choice([-1, 1]) * self._chance.uniform(*CLOCK_SECONDS)
        announce(f"the clock of {names[0] if len(names) == 1 else 'everything'} steps by {seconds:.0f} s")
        for name in names:
            clocks.step(name, seconds)
        try:
            await asyncio.sleep(self._chance.uniform(5.0, 15.0))
        finally:
            for name in names:
                clocks.step(name, 0.0)

    async def _fill_disk(self) -> None:
        """Leaves less on the disk than uploads need, or nothing, for a few seconds."""
        ballast = self._stack.disk / "ballast"
        left = self._chance.choice([0, _NEARLY_FULL_BYTES])
        announce(f"{left >> 20} MiB are left on the disk")
        try:
            await asyncio.to_thread(_fill, ballast, left)
            await asyncio.sleep(self._chance.uniform(2.0, 6.0))
        finally:
            ballast.unlink(missing_ok=True)


def _certificate_at(port: int) -> bytes:
    """The certificate that a server shows, as DER. Raises ``OSError`` if it cannot be reached."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((HOST, port), timeout=5.0))


def _fill(path: Path, left: int) -> None:
    """Writes a file that leaves so many bytes on its disk."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(path.parent).free - left))
        while not left:  # what was freed meanwhile
            file.write(bytes(1 << 16))
