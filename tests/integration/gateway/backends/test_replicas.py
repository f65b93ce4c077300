"""Calls to several replicas of a service go where they should, over real sockets."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from careca.errors import OutOfMemory, Overloaded
from careca.inference.audio import Audio
from careca.inference.engine import CancelToken
from careca.types import Progress, Segment, Transcript, TranscriptionOptions
from careca_gateway.backends import Replicas, TranscriberClient
from careca_gateway.backends import replicas as replicas_module
from careca_gateway.backends.replicas import FULL_SECONDS, State
from careca_gateway.backends.transcriber import TranscriberReplica
from careca_gateway.pipeline.pipeline import StageResult
from careca_gateway.request import Deadline
from careca_gateway.storage.store import StoredAudio
from support.fakes import SEGMENTS, FakeTranscriberEngine, digest_of, pcm
from support.redis_server import free_port
from support.stack import ModelService
from support.waiting import HANG_SECONDS, Clock, eventually, until

REPOSITORY = Path(__file__).parents[4]
NOTICED_SECONDS = 3.0
"""How long a process that hangs is waited for in these tests: one that is merely busy answers by then."""
TEXTS = [segment.text for segment in SEGMENTS]


class Asker:
    """Asks replicas for transcripts of different audio."""

    def __init__(self, replicas: Replicas, folder: Path, *, first: int = 1) -> None:
        self.replicas = replicas
        self._client = TranscriberClient(replicas)
        self._folder = folder
        self._next = first
        self.told: list[str] = []

    async def ask(self) -> list[str]:
        """The texts of the segments that were told before the result; ``told`` has them as they come."""
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
        """By port."""
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
    """One with more places to wait in."""
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


def let_go(services: list[ModelService]) -> None:
    for service in services:
        service.engine.may_go_on.set()


def inferences(services: list[ModelService]) -> list[int]:
    return [service.engine.inferences for service in services]


@asynccontextmanager
async def full(service: ModelService, folder: Path, *, calls: int = 2) -> AsyncIterator[None]:
    """Calls of another gateway, which ours do not see, take all slots and waiting places until the end."""
    hold([service])
    async with Replicas(listed([service])) as replicas:
        other = Asker(replicas, folder, first=1000 + service.port)
        others = [asyncio.create_task(other.ask()) for _ in range(calls)]
        (replica,) = TranscriberClient(replicas).replicas()

        async def is_full() -> bool:
            return await work(replica) == (1, calls - 1)

        await eventually(is_full)
        try:
            yield
        finally:
            let_go([service])
            told = await asyncio.gather(*others)
    assert told == [TEXTS] * calls


async def work(replica: TranscriberReplica) -> tuple[int, int]:
    """Tasks in flight and waiting there."""
    stats = await replica.stats(Deadline.after(HANG_SECONDS))
    return stats.in_flight, stats.waiting


async def refusal(target: str, folder: Path) -> float:
    """In how many seconds a gateway that only knows this target may come back."""
    async with Replicas(target) as replicas:
        with pytest.raises(Overloaded) as refused:
            await Asker(replicas, folder, first=1).ask()
    assert refused.value.retry_after_seconds
    return refused.value.retry_after_seconds


async def test_a_call_goes_to_who_has_fewer_of_our_calls(services: list[ModelService], asker: Asker) -> None:
    hold(services)
    calls = [asyncio.create_task(asker.ask()) for _ in range(2)]
    await until(lambda: inferences(services) == [1, 1])

    let_go(services[:1])
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    for _ in range(5):
        await asker.ask()

    assert inferences(services) == [6, 1], "the second one still works on its first"
    let_go(services)
    await asyncio.gather(*calls)


async def test_who_drains_gets_no_calls_and_gets_them_again_once_it_is_back(
    services: list[ModelService], asker: Asker
) -> None:
    await services[0].stop()
    for _ in range(6):
        await asker.ask()
    assert inferences(services) == [0, 6]

    await services[0].start("")
    await asker.until(ready(services))
    hold(services)
    calls = [asyncio.create_task(asker.ask()) for _ in range(2)]
    await until(lambda: inferences(services) == [1, 7])
    let_go(services)
    await asyncio.gather(*calls)


async def test_who_says_that_it_is_full_is_not_asked_while_another_is_not(
    services: list[ModelService], asker: Asker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(replicas_module, "time", clock)
    async with full(services[0], tmp_path):
        with capture_logs() as logs:

            def refusals() -> int:
                return sum(line["event"] == "another replica is asked" for line in logs)

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

        assert inferences(services)[0] == 1


async def test_what_a_full_one_refuses_is_computed_by_one_with_room_and_nobody_notices(
    services: list[ModelService], asker: Asker, tmp_path: Path
) -> None:
    hold(services)
    async with full(services[0], tmp_path):
        first = asyncio.create_task(asker.ask())
        await until(lambda: services[1].engine.inferences == 1)
        await until(lambda: not any(replica.is_full for replica in asker.replicas.all))
        with capture_logs() as logs:
            second = asyncio.create_task(asker.ask())  # the full one has none of our calls, the other one has
            await until(lambda: any(line["event"] == "another replica is asked" for line in logs))
        let_go(services[1:])

        assert await asyncio.gather(first, second) == [TEXTS, TEXTS]
        assert inferences(services) == [1, 2]


async def test_where_all_are_full_the_one_says_when_to_come_back_that_has_room_the_soonest(
    services: list[ModelService], longer: ModelService, tmp_path: Path
) -> None:
    both = [services[0], longer]
    async with full(services[0], tmp_path), full(longer, tmp_path, calls=4), Replicas(listed(both)) as replicas:
        asker = Asker(replicas, tmp_path)
        await asker.until(ready(both))
        alone = [await refusal(listed([service]), tmp_path) for service in both]
        assert alone[0] != alone[1]

        with pytest.raises(Overloaded) as refused:
            await asker.ask()

        assert refused.value.retry_after_seconds == min(alone)
        assert inferences(both) == [1, 1], "they had these before"


async def test_where_one_is_full_and_the_other_away_the_refusal_stands(
    services: list[ModelService], asker: Asker, tmp_path: Path
) -> None:
    async with full(services[0], tmp_path):
        await services[1].stop()
        await asker.until({services[1].port: State.AWAY})

        with pytest.raises(Overloaded) as refused:
            await asker.ask()

        assert refused.value.retry_after_seconds


async def test_who_goes_away_while_it_works_is_replaced_and_nothing_is_told_twice(tmp_path: Path) -> None:
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


async def test_what_a_service_refuses_is_not_asked_of_others(services: list[ModelService], asker: Asker) -> None:
    for service in services:
        service.engine.failures = [OutOfMemory("too much")]

    with pytest.raises(OutOfMemory):
        await asker.ask()

    assert sum(inferences(services)) == 1


async def test_a_new_address_of_a_name_gets_calls_and_one_that_is_gone_keeps_those_it_has(
    services: list[ModelService], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("careca_gateway.backends.replicas.LOOK_UP_SECONDS", 0.05)
    known = {f"ipv4:127.0.0.1:{services[0].port}"}
    asked = Counter[tuple[str, int]]()

    async def look_up(name: str, port: int) -> set[str]:
        asked[name, port] += 1
        return set(known)

    async with Replicas("dns:///transcriber:50052", look_up=look_up) as replicas:
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
        let_go(services)
        assert await old == await new == TEXTS
    assert set(asked) == {("transcriber", 50052)}


async def test_a_name_that_nobody_knows_any_more_keeps_its_addresses(
    services: list[ModelService], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("careca_gateway.backends.replicas.LOOK_UP_SECONDS", 0.02)
    answers = iter([{f"ipv4:127.0.0.1:{services[0].port}"}, set[str]()])
    failures = Counter[str]()

    async def look_up(name: str, port: int) -> set[str]:
        if (answer := next(answers, None)) is None:
            failures[name] += 1
            raise OSError("no answer")
        return answer

    async with Replicas("transcriber:50052", look_up=look_up) as replicas:
        asker = Asker(replicas, tmp_path)
        await until(lambda: failures["transcriber"] > 2)

        assert await asker.ask() == TEXTS
        assert asker.states == ready(services[:1])


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A transcriber in a process of its own, which takes its time, and its port."""
    port = free_port()
    settings = {"CARECA_PORT": str(port), "CARECA_METRICS_PORT": "-1", "CARECA_TIMED_SECONDS": "0.01"}
    command = [sys.executable, str(REPOSITORY / "bench" / "timed_service.py"), "transcriber"]
    with (tmp_path / "service.log").open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stderr=log)
    yield process, port
    process.kill()
    process.wait()


async def test_a_process_that_hangs_gets_no_calls_while_another_answers_and_gets_them_again_when_it_goes_on(
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
    """Tells its first segment and waits before it goes on."""

    def infer(
        self,
        audio: Audio,
        options: TranscriptionOptions,
        cancel: CancelToken,
        emit: Callable[[Segment | Progress], None],
    ) -> Transcript:
        self.inferences += 1
        emit(self.segments[0])
        self._wait_to_go_on(cancel)
        for segment in self.segments[1:]:
            emit(segment)
        return Transcript(self.segments, "en", 0.5, audio.duration, self.model)


def break_connections(port: int) -> None:
    """Ends all connections to ``port`` in the way that the end of a process does."""
    for connection in psutil.Process().net_connections("tcp"):
        if connection.raddr and connection.raddr.port == port:
            with socket.socket(fileno=os.dup(connection.fd)) as sock:
                sock.shutdown(socket.SHUT_RDWR)
