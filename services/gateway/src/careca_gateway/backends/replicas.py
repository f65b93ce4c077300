"""A channel to each replica of a service, and which of them is the best to call: the one with the fewest of our calls.

gRPC's own balancing takes turns. That is right for calls of milliseconds; tasks of minutes pile up behind one replica
while another is idle. It also finds new addresses of a name only when a connection ends, and does not notice a process
that hangs. Here each replica is asked for its health several times a second and names are looked up every other second:

* a replica that refuses calls, drains or cannot be reached gets none until its health says that it serves;
* one that does not answer in time gets none while another does: it hangs, or is busy, so that its calls go on;
* one that says it is full is asked last for a moment, and what it refused is offered to those that have room;
* a new address of a name gets calls as soon as it serves; one that is gone keeps those that it has.
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
from careca.rpc.channel import Options, create_channel
from careca.rpc.deferred_channel import DeferredChannel, Make
from careca.telemetry.logs import get_logger
from careca_gateway.backends.addresses import Resolve, look_up, parse_target

PROBE_SECONDS = 0.25
"""Pause between two questions for the health of a replica."""

ANSWER_SECONDS = 0.4
"""How long a replica may take to answer. Together with the pause, the longest that one that hangs goes unnoticed."""

LOOK_UP_SECONDS = 2.0
"""How often a name is looked up."""

FULL_SECONDS = 0.5
"""How long a replica that says it is full is taken at its word."""

# A process that hangs keeps its connection: its calls break off, to be asked of another one, when its silence has
# lasted this long. One that is merely busy answers pings all the same.
_OPTIONS: Options = [
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # of pings that measure bandwidth; while one is out keepalive sends none
    ("grpc.max_reconnect_backoff_ms", 1_000),
]

_SERVING = health_pb2.HealthCheckResponse.SERVING

_log = get_logger(__name__)


def connect(address: str, authority: str, tls: TlsFiles | None) -> grpc.aio.Channel:
    """A channel to one replica, which with ``tls`` must prove to be who is called; empty: that is the address."""
    called: Options = [("grpc.default_authority", authority)] if authority else []
    return create_channel(address, tls, options=[*_OPTIONS, *called])


class State(enum.IntEnum):
    """What is known of a replica, the best first."""

    READY = 0
    SLOW = 1
    UNKNOWN = 2
    AWAY = 3


class Replica(DeferredChannel):
    """A channel to one address, which counts its calls, and what is known of who is there."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self._channel = channel
        self.calls = 0
        """Calls of ours that have not ended."""
        self.state = State.UNKNOWN
        self._full_until = 0.0
        self._idle = asyncio.Event()
        self._idle.set()
        self._health = health_pb2_grpc.HealthStub(channel)

    @property
    def rank(self) -> tuple[State, bool, int]:
        """The smaller, the better to call."""
        return self.state, self.is_full, self.calls

    @property
    def is_full(self) -> bool:
        """Whether it said so just now."""
        return time.monotonic() < self._full_until

    def chosen(self) -> grpc.aio.Channel:
        """The only one there is."""
        return self._channel

    def begin(self, make: Make) -> Any:
        """Makes a call, counts it and learns from how it ends."""
        call = make(self._channel)
        self.calls += 1
        self._idle.clear()
        call.add_done_callback(self._ended)
        return call

    async def close(self, grace: float | None = None) -> None:
        """Closes the connection; calls in flight get ``grace`` seconds."""
        await self._channel.close(grace)

    def _ended(self, call: Any) -> None:
        self.calls -= 1
        if not self.calls:
            self._idle.set()
        code = _code_of(call)
        if code is grpc.StatusCode.UNAVAILABLE:
            self._note(State.AWAY)
        elif code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            self._full_until = time.monotonic() + FULL_SECONDS

    async def look(self) -> None:
        """Asks for the health once."""
        self._note(await _ask(self._health))

    async def watch(self) -> None:
        """Asks for the health until cancelled."""
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - a fault must not leave it as it was for good
                _log.exception("a fault in asking a replica for its health", address=self.address, exc_info=error)
                self._note(State.AWAY)
            await asyncio.sleep(PROBE_SECONDS)

    async def part(self) -> None:
        """Closes the channel once its last call has ended."""
        try:
            await self._idle.wait()
        finally:
            await self.close()

    def _note(self, state: State) -> None:
        if state is not self.state:
            _log.info("a replica changed", address=self.address, state=state.name, before=self.state.name)
        self.state = state


class Replicas:
    """All replicas of a service, and which to call. To be made in the event loop that it is used in.

    Args:
        target: where the replicas are: see ``careca_gateway.backends.addresses``.
        tls: what they must prove themselves by; ``None`` calls them without TLS.
        look_up: finds the addresses of a name.
    """

    def __init__(
        self,
        target: str,
        tls: TlsFiles | None = None,
        *,
        look_up: Resolve = look_up,
    ) -> None:
        self._target = parse_target(target)
        self._tls = tls
        self._look_up = look_up
        self._replicas: dict[str, Replica] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}
        self._parting: set[asyncio.Task[None]] = set()
        for address in self._target.fixed:
            self._take(self._create(address))
        self._looking = asyncio.create_task(self._follow()) if self._target.name else None

    @property
    def all(self) -> tuple[Replica, ...]:
        """Those that may be called now, the best first.

        Of several that are as good any may be it: gateways that all took the same would meet there.
        """
        return tuple(sorted(self._replicas.values(), key=lambda replica: (replica.rank, random.random())))

    def best(self) -> Replica:
        """The one to call now."""
        return self.all[0]

    def with_room(self, tried: Container[Replica]) -> Replica | None:
        """The best but for those ``tried``, if it is ready and did not say just now that it is full."""
        best = next((replica for replica in self.all if replica not in tried), None)
        return best if best and best.state is State.READY and not best.is_full else None

    async def present(self) -> tuple[Replica, ...]:
        """All but those that are away, the best first; where all are away, all. Asks each for its health first."""
        await asyncio.gather(*(replica.look() for replica in self.all))
        return tuple(replica for replica in self.all if replica.state is not State.AWAY) or self.all

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Closes all connections; calls in flight get ``grace`` seconds."""
        tasks = [*self._watching.values(), *self._parting, *([self._looking] if self._looking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(replica.close(grace) for replica in self._replicas.values()))

    async def _follow(self) -> None:
        """Keeps up with the addresses of the name."""
        known = True
        while True:
            try:
                await self._go_over_to(await self._look_up(self._target.name, self._target.port))
                known = True
            except (OSError, UnicodeError) as error:  # nobody is sent away because nobody says where they are
                if known:
                    _log.warning("a name cannot be looked up", name=self._target.name, error=str(error))
                known = False
            await asyncio.sleep(LOOK_UP_SECONDS)

    async def _go_over_to(self, addresses: set[str]) -> None:
        """Takes new replicas in, whose health is asked for first, and parts from those that are gone."""
        new = [self._create(address) for address in addresses - self._replicas.keys()]
        await asyncio.gather(*(replica.look() for replica in new))
        for replica in new:
            self._take(replica)
        for address in self._replicas.keys() - addresses if addresses else ():
            self._watching.pop(address).cancel()
            task = asyncio.create_task(self._replicas.pop(address).part(), name=f"part from {address}")
            self._parting.add(task)
            task.add_done_callback(self._parting.discard)

    def _create(self, address: str) -> Replica:
        return Replica(address, connect(address, self._target.authority, self._tls))

    def _take(self, replica: Replica) -> None:
        self._replicas[replica.address] = replica
        self._watching[replica.address] = asyncio.create_task(replica.watch(), name=f"watch {replica.address}")


def _code_of(call: Any) -> grpc.StatusCode | None:
    """The status of a call that has ended: its coroutine has nothing to wait for."""
    try:
        call.code().send(None)
    except StopIteration as done:
        code: grpc.StatusCode = done.value
        return code
    return None


async def _ask(stub: health_pb2_grpc.HealthStub) -> State:
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_SECONDS)
    except grpc.aio.AioRpcError as error:
        match error.code():
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return State.SLOW
            case grpc.StatusCode.UNAVAILABLE:
                return State.AWAY
            case _:  # it answers, if not about its health
                return State.READY
    return State.READY if answer.status == _SERVING else State.AWAY
