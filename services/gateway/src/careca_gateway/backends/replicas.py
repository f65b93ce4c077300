"""Balances calls over the replicas of a service: the next call goes to the replica with the fewest calls of ours.

gRPC's own balancing is round robin. That is right for calls of milliseconds; calls of minutes pile up at one replica
while another is idle. It also looks for new addresses of a name only when a connection ends, and does not notice a
process that hangs. Here each replica's health is checked several times a second and names are resolved every other
second:

* A replica that refuses calls, drains or cannot be reached gets no calls until its health check succeeds.
* A replica that does not answer in time gets no calls while another one does. It hangs or is busy; its calls go on.
* A replica that is full is tried last for a moment, and what it refused is offered to replicas that have room.
* A new address of a name gets calls when its health check succeeds. An address that is gone keeps its calls.
"""

from __future__ import annotations

import asyncio
import enum
import random
import time
from collections.abc import Container
from typing import Any, Self

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from careca.auth.tls import TlsFiles
from careca.cancellation import cancel_and_wait
from careca.rpc.channel import Options, create_channel
from careca.rpc.deferred_channel import DeferredChannel, Make
from careca.rpc.statuses import at_once
from careca.telemetry.logs import get_logger
from careca_gateway.backends.addresses import Resolve, parse_target, resolve

PROBE_SECONDS = 0.25
"""Pause between two health checks of a replica."""

ANSWER_SECONDS = 0.4
"""Timeout of a health check. Together with the pause: the longest time until a hanging replica is noticed."""

RESOLVE_SECONDS = 2.0
"""How often a name is resolved."""

LOOKUP_SECONDS = 3.0
"""After this time, a name is looked up again: the system's resolver waits 5 s for each packet that was lost."""

FULL_SECONDS = 0.5
"""How long a replica counts as full after it refused a call."""

# A process that hangs keeps its connection. Its calls fail after this time without an answer to pings and are retried
# at another replica. A process that is only busy answers pings.
_OPTIONS: Options = [
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # for pings that measure bandwidth, during which keepalive sends none
    ("grpc.max_reconnect_backoff_ms", 1_000),
]

_SERVING = health_pb2.HealthCheckResponse.SERVING

_log = get_logger(__name__)


def connect(address: str, authority: str, tls: TlsFiles | None) -> grpc.aio.Channel:
    """Creates a channel to one replica. With ``tls``, its certificate must be for ``authority``, or the address."""
    called: Options = [("grpc.default_authority", authority)] if authority else []
    return create_channel(address, tls, options=[*_OPTIONS, *called])


class State(enum.IntEnum):
    """The health of a replica, the best first."""

    READY = 0
    SLOW = 1
    UNKNOWN = 2
    UNAVAILABLE = 3


class Replica(DeferredChannel):
    """A channel to one address, with the number of its calls and its health."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self._channel = channel
        self.calls = 0
        """The number of our calls that are running."""
        self.state = State.UNKNOWN
        self._full_until = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._health = health_pb2_grpc.HealthStub(channel)

    @property
    def rank(self) -> tuple[State, bool, int]:
        """The sort key: the best replica to call has the smallest."""
        return self.state, self.is_full, self.calls

    @property
    def is_full(self) -> bool:
        """Whether it refused a call just now because it is full."""
        return time.monotonic() < self._full_until

    def chosen(self) -> grpc.aio.Channel:
        """Returns the channel."""
        return self._channel

    def begin(self, make: Make) -> Any:
        """Starts a call, counts it, and updates the state by the status with which it ends."""
        call = make(self._channel)
        self.calls += 1
        self._idle.clear()
        call.add_done_callback(self._call_ended)
        return call

    async def close(self, grace: float | None = None) -> None:
        """Closes the connection. Running calls get ``grace`` seconds."""
        await self._channel.close(grace)

    def _call_ended(self, call: Any) -> None:
        self.calls -= 1
        if not self.calls:
            self._idle.set()
        code = at_once(call.code())  # a call that has ended has its status
        if code is grpc.StatusCode.UNAVAILABLE:
            self._set_state(State.UNAVAILABLE)
        elif code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            self._full_until = time.monotonic() + FULL_SECONDS

    async def check_health(self) -> None:
        """Checks the health once."""
        self._set_state(await _check_health(self._health))

    async def watch_health(self) -> None:
        """Checks the health repeatedly until cancelled."""
        while True:
            try:
                await self.check_health()
            except Exception as error:  # noqa: BLE001 - an unexpected error must not freeze the state
                _log.exception("the health check of a replica failed", address=self.address, exc_info=error)
                self._set_state(State.UNAVAILABLE)
            await asyncio.sleep(PROBE_SECONDS)

    async def close_when_idle(self) -> None:
        """Closes the channel when its last call has ended."""
        try:
            await self._idle.wait()
        finally:
            await self.close()

    def _set_state(self, state: State) -> None:
        if state is not self.state:
            _log.info("a replica's state changed", address=self.address, state=state.name, before=self.state.name)
        self.state = state


class Replicas:
    """All replicas of a service. Must be created in the event loop that uses it.

    Args:
        target: where the replicas are: see ``careca_gateway.backends.addresses``.
        tls: the files to verify the replicas with; ``None`` calls them without TLS.
        resolve: finds the addresses of a name.
    """

    def __init__(self, target: str, tls: TlsFiles | None = None, *, resolve: Resolve = resolve) -> None:
        self._target = parse_target(target)
        self._tls = tls
        self._resolve = resolve
        self._replicas: dict[str, Replica] = {}
        self._health_tasks: dict[str, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        for address in self._target.fixed:
            self._add(self._create(address))
        self._resolving = asyncio.create_task(self._resolve_repeatedly()) if self._target.name else None

    @property
    def all(self) -> tuple[Replica, ...]:
        """All replicas, the best one to call first.

        Equally good replicas are in random order, so that several gateways do not all choose the same one.
        """
        return tuple(sorted(self._replicas.values(), key=lambda replica: (replica.rank, random.random())))

    def best(self) -> Replica:
        """Returns the replica to call now."""
        return self.all[0]

    def with_room(self, tried: Container[Replica]) -> Replica | None:
        """Returns the best replica that was not ``tried``, or ``None`` if that is not ready or is full."""
        best = next((replica for replica in self.all if replica not in tried), None)
        return best if best and best.state is State.READY and not best.is_full else None

    async def available(self) -> tuple[Replica, ...]:
        """Checks the health of all replicas. Returns the available ones, the best first; all if none is available."""
        await asyncio.gather(*(replica.check_health() for replica in self.all))
        return tuple(replica for replica in self.all if replica.state is not State.UNAVAILABLE) or self.all

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Closes all connections. Running calls get ``grace`` seconds."""
        await cancel_and_wait((*self._health_tasks.values(), *self._closing, self._resolving))
        await asyncio.gather(*(replica.close(grace) for replica in self._replicas.values()))

    async def _resolve_repeatedly(self) -> None:
        resolved = True
        while True:
            try:
                async with asyncio.timeout(LOOKUP_SECONDS):
                    addresses = await self._resolve(self._target.name, self._target.port)
                await self._update(addresses)
                resolved = True
            except (OSError, UnicodeError) as error:  # the known replicas stay in use
                if resolved:
                    _log.warning("a name cannot be looked up", name=self._target.name, error=str(error) or "no answer")
                resolved = False
            await asyncio.sleep(RESOLVE_SECONDS)

    async def _update(self, addresses: set[str]) -> None:
        """Adds replicas for new addresses after a health check, and removes those whose address is gone."""
        new = [self._create(address) for address in addresses - self._replicas.keys()]
        await asyncio.gather(*(replica.check_health() for replica in new))
        for replica in new:
            self._add(replica)
        for address in self._replicas.keys() - addresses if addresses else ():
            self._health_tasks.pop(address).cancel()
            task = asyncio.create_task(self._replicas.pop(address).close_when_idle(), name=f"close {address}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _create(self, address: str) -> Replica:
        return Replica(address, connect(address, self._target.authority, self._tls))

    def _add(self, replica: Replica) -> None:
        self._replicas[replica.address] = replica
        self._health_tasks[replica.address] = asyncio.create_task(
            replica.watch_health(), name=f"watch {replica.address}"
        )


async def _check_health(stub: health_pb2_grpc.HealthStub) -> State:
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_SECONDS)
    except grpc.aio.AioRpcError as error:
        match error.code():
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return State.SLOW
            case grpc.StatusCode.UNAVAILABLE:
                return State.UNAVAILABLE
            case _:  # the process answers, but has no health service
                return State.READY
    return State.READY if answer.status == _SERVING else State.UNAVAILABLE
