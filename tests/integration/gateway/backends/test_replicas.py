"""The balancing of calls over replicas of a service, over real sockets."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from careca import cancellation
from careca.errors import Cancelled, OutOfMemory, Overloaded, Unavailable
from careca.inference import worker
from careca.inference.audio import Audio
from careca.inference.engine import Work
from careca.types import Segment, Transcript, TranscriptionOptions, WindowToRead
from careca_gateway.backends import Replicas, TranscriberClient
from careca_gateway.backends import replicas as replicas_module
from careca_gateway.backends.model_service import ModelServiceReplica
from careca_gateway.backends.replicas import FULL_SECONDS, State
from careca_gateway.pipeline.port import StageResult
from careca_gateway.request import Deadline
from careca_gateway.storage.held_recording import StoredAudio
from local_stack import TIMED_SERVICE
from support.fakes import SEGMENTS, FakeTranscriberEngine, digest_of, pcm
from support.redis_server import free_port
from support.stack import ModelService
from support.waiting import HANG_SECONDS, Clock, eventually, settle, until

NOTICED_SECONDS = 3.0
"""How long these tests wait for a hanging process. A process that is only busy answers by then."""
TEXTS = [segment.text for segment in SEGMENTS]


class Asker:
    """Calls replicas for transcripts of different audio."""

    def __init__(self, replicas: Replicas, folder: Path, *, first: int = 1) -> None:
        self.replicas = replicas
        self._client = TranscriberClient(replicas)
        self._folder = folder
        self._next = first
        self.told: list[str] = []

    async def ask(self) -> list[str]:
        """Returns the texts of the segments before the result. ``told`` has them as they arrive."""
        data = pcm(seed=self._next)
        path = self._folder / f"{self._next}.pcm"
        self._next += 1
        path.write_bytes(data)
        audio = StoredAudio(digest_of(data), path)
        running = self._client.run(
            audio, TranscriptionOptions(), skip_cache=False, deadline=Deadline.after(HANG_SECONDS)
        )
        self.told = told = list[str]()
        async for event in running:
            if isinstance(event, Segment):
                told.append(event.text)
        assert isinstance(event, StageResult)
        return told

    async def until(self, states: dict[int, State]) -> None:
        """Returns once the replicas at these ports are in these states."""
        await until(lambda: states.items() <= self.states.items())

    @property
    def states(self) -> dict[int, State]:
        """The states by port."""
        return {int(each.address.rpartition(":")[2]): each.state for each in self.replicas.all}


@pytest.fixture(autouse=True)
def _busy_is_not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas_module, "ANSWER_SECONDS", NOTICED_SECONDS)


@pytest.fixture
async def services() -> AsyncIterator[list[ModelService]]:
    services = [ModelService(FakeTranscriberEngine(), max_waiting=1) for _ in range(2)]
    for service in services:
        await service.start("")
    yield services
    for service in services:
        await service.stop()


@pytest.fixture
async def longer() -> AsyncIterator[ModelService]:
    """A transcriber with a longer queue."""
    service = ModelService(FakeTranscriberEngine(), max_waiting=3)
    await service.start("")
    yield service
    await service.stop()


def ready(services: list[ModelService]) -> dict[int, State]:
    return {service.port: State.READY for service in services}


def listed(services: list[ModelService]) -> str:
    return "ipv4:" + ",".join(f"127.0.0.1:{service.port}" for service in services)


@pytest.fixture
async def asker(services: list[ModelService], tmp_path: Path) -> AsyncIterator[Asker]:
    async with Replicas(listed(services)) as replicas:
        asker = Asker(replicas, tmp_path)
        await asker.until(ready(services))
        yield asker


def hold(services: list[ModelService]) -> None:
    for service in services:
        service.engine.may_go_on.clear()


def resume_models(services: list[ModelService]) -> None:
    for service in services:
        service.engine.may_go_on.set()


def inferences(services: list[ModelService]) -> list[int]:
    return [service.engine.inferences for service in services]


@asynccontextmanager
async def full(service: ModelService, folder: Path, *, calls: int = 2) -> AsyncIterator[None]:
    """Calls of another gateway, which ours does not see, take all slots and queue places until the end."""
    hold([service])
    async with Replicas(listed([service])) as replicas:
        other = Asker(replicas, folder, first=1000 + service.port)
        others = [asyncio.create_task(other.ask()) for _ in range(calls)]
        (replica,) = TranscriberClient(replicas).replicas()

        async def is_full() -> bool:
            return sum(await work(replica)) == calls

        await eventually(is_full)
        try:
            yield
        finally:
            resume_models([service])
            told = await asyncio.gather(*others)
    assert told == [TEXTS] * calls


async def work(replica: ModelServiceReplica) -> tuple[int, int]:
    """Returns the numbers of tasks that run and that wait there."""
    stats = await replica.stats(Deadline.after(HANG_SECONDS))
    return stats.in_flight, stats.waiting


async def refusal(target: str, folder: Path) -> float:
    """Returns the retry time that a gateway with only this target gets."""
    async with Replicas(target) as replicas:
        with pytest.raises(Overloaded) as refused:
            await Asker(replicas, folder, first=1).ask()
    assert refused.value.retry_after_seconds
    return refused.value.retry_after_seconds


async def test_a_call_goes_to_the_replica_with_fewer_calls(services: list[ModelService], asker: Asker) -> None:
    hold(services)
    calls = [asyncio.create_task(asker.ask()) for _ in range(2)]
    await until(lambda: inferences(services) == [1, 1])

    resume_models(services[:1])
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    for _ in range(5):
        await asker.ask()

    assert inferences(services) == [6, 1], "the second one still works on its first"
    resume_models(services)
    await asyncio.gather(*calls)


async def test_a_draining_replica_gets_no_calls_until_it_is_back(services: list[ModelService], asker: Asker) -> None:
    await services[0].stop()
    for _ in range(6):
        await asker.ask()
    assert inferences(services) == [0, 6]

    await services[0].start("")
    await asker.until(ready(services))
    hold(services)
    calls = [asyncio.create_task(asker.ask()) for _ in range(2)]
    await until(lambda: inferences(services) == [1, 7])
    resume_models(services)
    await asyncio.gather(*calls)


async def test_a_full_replica_gets_no_calls_while_another_has_room(
    services: list[ModelService], asker: Asker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(replicas_module, "time", clock)
    async with full(services[0], tmp_path):
        with capture_logs() as logs:

            def refusals() -> int:
                return sum(line["event"] == "another replica is called" for line in logs)

            async def is_refused() -> bool:
                """Whether a call met the full one, which it does or does not by chance."""
                before = refusals()
                assert await asker.ask() == TEXTS
                return refusals() > before

            for _ in range(2):
                await eventually(is_refused)
                before = refusals()
                for _ in range(8):
                    assert await asker.ask() == TEXTS
                assert refusals() == before, "it is left alone for a while after it said so"
                clock.seconds += FULL_SECONDS

    assert inferences(services)[0] == 2, "the calls that filled it, and no other"


async def test_a_call_refused_by_a_full_replica_goes_to_another_one(
    services: list[ModelService], asker: Asker, tmp_path: Path
) -> None:
    hold(services)
    async with full(services[0], tmp_path):
        first = asyncio.create_task(asker.ask())
        await until(lambda: services[1].engine.inferences == 1)
        await until(lambda: not any(replica.is_full for replica in asker.replicas.all))
        with capture_logs() as logs:
            second = asyncio.create_task(asker.ask())  # the full one has none of our calls, the other one has
            await until(lambda: any(line["event"] == "another replica is called" for line in logs))
        resume_models(services[1:])

        assert await asyncio.gather(first, second) == [TEXTS, TEXTS]
    assert inferences(services) == [2, 2], "of the full one the calls that filled it"


async def test_if_all_replicas_are_full_the_shortest_retry_time_is_returned(
    services: list[ModelService], longer: ModelService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_LEAST_RETRY_SECONDS", 0.0)  # the recordings are short
    both = [services[0], longer]
    async with full(services[0], tmp_path), full(longer, tmp_path, calls=4), Replicas(listed(both)) as replicas:
        asker = Asker(replicas, tmp_path)
        await asker.until(ready(both))
        alone = [await refusal(listed([service]), tmp_path) for service in both]
        assert alone[0] != alone[1]

        with pytest.raises(Overloaded) as refused:
            await asker.ask()

        assert refused.value.retry_after_seconds == min(alone)
    assert inferences(both) == [2, 4], "the calls that filled them, and no other"


async def test_if_one_replica_is_full_and_the_other_unavailable_the_call_is_refused(
    services: list[ModelService], asker: Asker, tmp_path: Path
) -> None:
    async with full(services[0], tmp_path):
        await services[1].stop()
        await asker.until({services[1].port: State.UNAVAILABLE})

        with pytest.raises(Overloaded) as refused:
            await asker.ask()

        assert refused.value.retry_after_seconds


async def test_a_replica_that_fails_during_a_call_is_replaced_without_repeated_segments(tmp_path: Path) -> None:
    engine = HesitantEngine()
    engine.may_go_on.clear()
    service = ModelService(engine)
    await service.start("")
    async with Replicas(listed([service])) as replicas:
        asker = Asker(replicas, tmp_path)
        await asker.until(ready([service]))
        call = asyncio.create_task(asker.ask())
        await until(lambda: asker.told == TEXTS[:1])

        await asyncio.to_thread(break_connections, service.port)
        await until(lambda: engine.inferences == 2)
        engine.may_go_on.set()

        assert await call == TEXTS
    await service.stop()


async def test_a_call_that_the_service_cancels_is_repeated(services: list[ModelService], asker: Asker) -> None:
    """As gRPC does with calls that come while a service stops."""
    for service in services:
        service.engine.failures = [Cancelled("CANCELLED")]

    assert await asker.ask() == TEXTS

    assert sum(inferences(services)) in (2, 3)


async def test_a_window_that_the_service_cancels_can_be_read_again(services: list[ModelService], asker: Asker) -> None:
    for service in services:
        service.engine.failures = [Cancelled("CANCELLED")]

    with pytest.raises(Unavailable):
        await TranscriberClient(asker.replicas).read_window(b"", WindowToRead(TranscriptionOptions()))


async def test_an_invalid_request_is_not_sent_to_other_replicas(services: list[ModelService], asker: Asker) -> None:
    for service in services:
        service.engine.failures = [OutOfMemory("too much")]

    with pytest.raises(OutOfMemory):
        await asker.ask()

    assert sum(inferences(services)) == 1


async def test_new_addresses_get_calls_and_removed_ones_keep_theirs(
    services: list[ModelService], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("careca_gateway.backends.replicas.RESOLVE_SECONDS", 0.05)
    known = {f"ipv4:127.0.0.1:{services[0].port}"}
    asked = Counter[tuple[str, int]]()

    async def resolve(name: str, port: int) -> set[str]:
        asked[name, port] += 1
        return set(known)

    async with Replicas("dns:///transcriber:50052", resolve=resolve) as replicas:
        asker = Asker(replicas, tmp_path)
        await asker.until(ready(services[:1]))
        hold(services)
        old = asyncio.create_task(asker.ask())
        await until(lambda: services[0].engine.inferences == 1)

        known.add(f"ipv4:127.0.0.1:{services[1].port}")
        await asker.until(ready(services))
        new = asyncio.create_task(asker.ask())
        await until(lambda: services[1].engine.inferences == 1)

        known.discard(f"ipv4:127.0.0.1:{services[0].port}")
        await until(lambda: set(asker.states) == {services[1].port})
        resume_models(services)
        assert await old == await new == TEXTS
    assert set(asked) == {("transcriber", 50052)}


async def test_closing_repeats_a_cancellation_that_was_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As gRPC does if a call ends at that moment."""
    monkeypatch.setattr(cancellation, "_CANCEL_AGAIN_SECONDS", 0.01)
    cancelled = Counter[str]()

    async def resolve(name: str, port: int) -> set[str]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled[name] += 1
            if cancelled[name] > 1:
                raise
        return set()

    replicas = Replicas("dns:///transcriber:50052", resolve=resolve)
    await settle()

    async with asyncio.timeout(HANG_SECONDS):
        await replicas.close()

    assert cancelled["transcriber"] == 1


async def test_a_name_that_cannot_be_resolved_keeps_its_addresses(
    services: list[ModelService], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("careca_gateway.backends.replicas.RESOLVE_SECONDS", 0.02)
    answers = iter([{f"ipv4:127.0.0.1:{services[0].port}"}, set[str]()])
    failures = Counter[str]()

    async def resolve(name: str, port: int) -> set[str]:
        if (answer := next(answers, None)) is None:
            failures[name] += 1
            raise OSError("no answer")
        return answer

    async with Replicas("transcriber:50052", resolve=resolve) as replicas:
        asker = Asker(replicas, tmp_path)
        await until(lambda: failures["transcriber"] > 2)

        assert await asker.ask() == TEXTS
        assert asker.states == ready(services[:1])


async def test_a_lookup_that_is_not_answered_is_repeated(
    services: list[ModelService], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas_module, "LOOKUP_SECONDS", 0.05)
    monkeypatch.setattr(replicas_module, "RESOLVE_SECONDS", 0.02)
    lookups = Counter[str]()

    async def resolve(name: str, port: int) -> set[str]:
        lookups[name] += 1
        if lookups[name] < 3:
            await asyncio.Event().wait()
        return {f"ipv4:127.0.0.1:{services[0].port}"}

    async with Replicas("transcriber:50052", resolve=resolve) as replicas:
        asker = Asker(replicas, tmp_path)
        await asker.until(ready(services[:1]))

        assert await asker.ask() == TEXTS


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A slow transcriber in its own process, and its port."""
    port = free_port()
    settings = {"CARECA_PORT": str(port), "CARECA_METRICS_PORT": "-1", "CARECA_TIMED_SECONDS": "0.01"}
    command = [sys.executable, TIMED_SERVICE, "transcriber"]
    with (tmp_path / "service.log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stderr=log)
    yield process, port
    process.kill()
    process.wait()


async def test_a_hanging_process_gets_no_calls_until_it_answers_again(
    hanging: tuple[subprocess.Popen[bytes], int], services: list[ModelService], tmp_path: Path
) -> None:
    process, port = hanging
    target = f"{listed(services[:1])},127.0.0.1:{port}"
    async with Replicas(target) as replicas:
        asker = Asker(replicas, tmp_path)
        await asker.until({port: State.READY, services[0].port: State.READY})

        process.send_signal(signal.SIGSTOP)
        await asker.until({port: State.SLOW})
        for _ in range(6):
            await asker.ask()
        assert services[0].engine.inferences == 6

        process.send_signal(signal.SIGCONT)
        await asker.until({port: State.READY})


class HesitantEngine(FakeTranscriberEngine):
    """Emits its first segment and waits before it continues."""

    def infer(self, audio: Audio, options: TranscriptionOptions) -> Work[Transcript]:
        self.inferences += 1
        yield self.segments[0]
        yield from self._wait_to_go_on()
        yield from self.segments[1:]
        return Transcript(self.segments, "en", 0.5, audio.duration, self.model)


def break_connections(port: int) -> None:
    """Closes all connections to ``port`` as the end of a process does."""
    for connection in psutil.Process().net_connections("tcp"):
        if connection.raddr and connection.raddr.port == port:
            with socket.socket(fileno=os.dup(connection.fd)) as sock:
                sock.shutdown(socket.SHUT_RDWR)
