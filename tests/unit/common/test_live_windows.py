"""Windows of live audio beside other work: their places, their order, and what is not done after them."""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from careca import codec
from careca.errors import Cancelled, OutOfMemory, Overloaded
from careca.inference.audio import Audio
from careca.inference.cached_stage import CachedStage, Finished
from careca.inference.engine import Batch, Work
from careca.inference.engine_loop import EngineLoop, EngineLoops, Infer, Stop
from careca.inference.engine_thread import EngineThread
from careca.inference.metrics import ModelServiceMetrics
from careca.inference.scheduler import PATIENCE, Ended, Scheduler, Step
from careca.inference.shared_engine import CancelToken, CleanedUp, Outcome
from careca.inference.worker import Worker
from careca.resources.memory import MemoryCleaner
from careca.settings import ModelServiceSettings
from careca.types import Scheduling, SchedulingClass, Stage, TranscriptionOptions, WindowToRead
from careca.v1 import audio_pb2
from support.fakes import FakeCache, chunks_of, digest_of, pcm
from support.live import SpokenTranscriber, spoken, word
from support.waiting import HANG_SECONDS, Clock, until

LIVE, INTERACTIVE, BATCH = (
    Scheduling(SchedulingClass.LIVE, "ana"),
    Scheduling(SchedulingClass.INTERACTIVE, "ana"),
    Scheduling(SchedulingClass.BATCH, "ana"),
)
WINDOW = spoken([word(0, 1, 0.5), 0.5])


# Places


async def test_windows_have_places_of_their_own() -> None:
    worker = Worker(max_waiting=0, max_windows=2)
    with worker.admit(1.0), worker.admit_window(), worker.admit_window():
        assert worker.windows == 2
        assert (worker.waiting, worker.in_flight) == (1, 0)
        with pytest.raises(Overloaded) as refused, worker.admit_window():
            pass
        assert refused.value.retry_after_seconds
        with pytest.raises(Overloaded), worker.admit(1.0):
            pass
    assert worker.windows == 0
    with worker.admit_window():
        assert worker.windows == 1
    await worker.close()


async def test_a_window_that_fails_gives_its_place_back() -> None:
    worker = Worker(max_windows=1)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), worker.admit_window():
            raise ValueError("broken")
    assert worker.windows == 0
    await worker.close()


# Order


class Device:
    """Requests of batches that take a second."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.scheduler = Scheduler(share=False, clock=self.clock)
        self.batches: list[str] = []
        self.ended: list[str] = []
        self.names: dict[int, str] = {}
        self.occurred: list[Any] = []

    def add(self, name: str, scheduling: Scheduling, batches: int = 1) -> None:
        number = len(self.names)
        self.names[number] = name
        self.scheduler.add(number, self._work(name, batches), scheduling)

    def _work(self, name: str, batches: int) -> Work[None]:
        def compute() -> None:
            self.batches.append(name)
            self.clock.seconds += 1.0

        for _ in range(batches):
            yield Batch.alone(compute)

    def step(self) -> None:
        for number, occurrence in self.scheduler.step():
            self.occurred.append(occurrence)
            if isinstance(occurrence, Ended):
                self.ended.append(self.names[number])

    def run(self) -> None:
        while len(self.scheduler):
            self.step()


def test_windows_go_before_all_others_that_came_earlier() -> None:
    device = Device()
    device.add("batch", BATCH, 5)
    device.add("interactive", INTERACTIVE, 5)
    for _ in range(3):
        device.step()
    before = len(device.batches)

    device.add("live", LIVE, 2)
    device.run()

    assert device.batches[before : before + 2] == ["live", "live"]
    assert device.ended == ["live", "interactive", "batch"]


def test_others_move_beside_windows_without_end() -> None:
    device = Device()
    device.add("interactive", INTERACTIVE, 3)
    device.step()  # its beginning

    for number in range(200):
        device.add(f"live{number}", LIVE)
        device.step()
        device.step()
        if "interactive" in device.ended:
            break

    assert "interactive" in device.ended
    assert number >= PATIENCE, "it did not wait"


def test_the_end_of_a_window_says_its_class() -> None:
    device = Device()
    device.add("live", LIVE)
    device.add("batch", BATCH)
    device.run()

    classes = [each.scheduling_class for each in device.occurred if isinstance(each, Ended)]
    assert classes == [SchedulingClass.LIVE, SchedulingClass.BATCH]
    steps = [each.scheduling_class for each in device.occurred if isinstance(each, Step)]
    assert steps == classes
    assert SchedulingClass.LIVE.label == "live"


# A loop of their own


class Reader(SpokenTranscriber):
    """Reads windows at the same time as recordings, whose only batch ends when ``window_read`` is set."""

    parallel_live = True

    def __init__(self) -> None:
        super().__init__()
        self.load()
        self.recording_begun, self.window_begun, self.window_read = (threading.Event() for _ in range(3))

    def _read(self, audio: Audio, window: WindowToRead) -> Work[Any]:
        self.window_begun.set()
        return (yield from super()._read(audio, window))

    def _transcribe(self, audio: Audio, options: TranscriptionOptions) -> Work[Any]:
        (read_before,) = yield Batch.alone(self._wait_for_window)
        return read_before

    def _wait_for_window(self) -> bool:
        self.recording_begun.set()
        return self.window_read.wait(HANG_SECONDS)


def infer(
    shared: EngineThread[Any, Any], options: Any, scheduling: Scheduling, cancel: CancelToken | None = None
) -> Any:
    audio = Audio(np.frombuffer(WINDOW, "<i2"))
    return shared.infer(audio, options, scheduling, cancel or CancelToken(), lambda _: None).result


def test_a_window_does_not_wait_for_the_batch_of_a_recording_if_the_engine_can_do_both() -> None:
    engine = Reader()
    shared: EngineThread[Any, Any] = EngineThread(engine)
    with ThreadPoolExecutor(1) as threads:
        recording = threads.submit(infer, shared, TranscriptionOptions(), BATCH)
        assert engine.recording_begun.wait(HANG_SECONDS)

        read = infer(shared, WindowToRead(last=True), LIVE)
        engine.window_read.set()

        assert [each.text for each in read.words] == ["w5001"]
        assert recording.result(HANG_SECONDS) is True


def test_a_window_in_a_loop_of_its_own_can_be_cancelled() -> None:
    engine = Reader()
    engine.may_go_on.clear()
    cancel = CancelToken()
    with ThreadPoolExecutor(1) as threads:
        window = threads.submit(infer, EngineThread(engine), WindowToRead(last=True), LIVE, cancel)
        assert engine.window_begun.wait(HANG_SECONDS)
        cancel.cancel()

        with pytest.raises(Cancelled):
            window.result(HANG_SECONDS)


def test_both_loops_of_an_engine_end_with_a_stop() -> None:
    loops = EngineLoops(Reader(), share=False, tell=lambda *_: None)
    before = threading.enumerate()
    loops.put(Stop())

    loops.run()

    assert set(threading.enumerate()) <= set(before)


@pytest.mark.parametrize("scheduling", [LIVE, BATCH])
def test_a_loop_that_fails_ends_both_and_its_error_is_raised(scheduling: Scheduling) -> None:
    def tell(*_: object) -> None:
        raise ValueError("nobody listens")

    loops = EngineLoops(Reader(), share=False, tell=tell)
    audio = Audio(np.frombuffer(WINDOW, "<i2"))
    loops.put(Infer(0, audio, WindowToRead(), scheduling, contextvars.Context()))

    with pytest.raises(ValueError, match="nobody listens"):
        loops.run()


# What is not done after a window


def told_by_a_loop(*schedulings: Scheduling, failures: list[Exception] | None = None) -> list[tuple[int, type]]:
    """The messages of an engine's loop about one request of each scheduling, without steps and starts."""
    engine = SpokenTranscriber(failures=failures or [])
    engine.load()
    told: list[tuple[int, type]] = []
    loop = EngineLoop(engine, share=False, tell=lambda number, message: told.append((number, type(message))))
    audio = Audio(np.frombuffer(WINDOW, "<i2"))
    for number, scheduling in enumerate(schedulings):
        live = scheduling.scheduling_class is SchedulingClass.LIVE
        options = WindowToRead() if live else TranscriptionOptions()
        loop.put(Infer(number, audio, options, scheduling, contextvars.Context()))
    stopping = loop._step

    def step() -> None:
        stopping()
        if not len(loop._scheduler):
            loop.put(Stop())

    loop._step = step  # type: ignore[method-assign]
    loop.run()
    return [(number, kind) for number, kind in told if kind in (CleanedUp, Outcome)]


def test_memory_is_given_back_after_a_recording_and_not_after_a_window() -> None:
    assert told_by_a_loop(LIVE, INTERACTIVE, LIVE) == [
        (0, Outcome),
        (2, Outcome),
        (1, CleanedUp),
        (1, Outcome),
    ]


def test_memory_is_not_given_back_after_a_window_that_failed() -> None:
    assert told_by_a_loop(LIVE, failures=[OutOfMemory("too little memory")]) == [(0, Outcome)]


# The flow of a model service


class Service:
    """A transcriber with all its parts but a server."""

    def __init__(self, **settings: Any) -> None:
        self.engine = SpokenTranscriber()
        self.worker = Worker(max_waiting=1, max_windows=2)
        self.shared: EngineThread[Any, Any] = EngineThread(self.engine)
        self.metrics = ModelServiceMetrics(Stage.TRANSCRIBE, self.shared, self.worker)
        self.cleanups: list[str] = []
        self.cache = FakeCache(self.metrics)
        self.stage: CachedStage[Any, Any, Any] = CachedStage(
            stage=Stage.TRANSCRIBE,
            engine=self.shared,
            encode=codec.encode_transcript,
            message_type=audio_pb2.Transcript,
            cache=self.cache,
            worker=self.worker,
            memory=MemoryCleaner(self.shared, lambda *_: self.cleanups.append("cleanup")),
            metrics=self.metrics,
            settings=ModelServiceSettings(**settings),
        )

    async def read(self) -> Any:
        return await self.stage.compute_window(WINDOW, WindowToRead(last=True), LIVE)


async def test_a_window_is_computed_and_not_cached() -> None:
    service = Service()

    found = [await service.read() for _ in range(2)]

    assert [each.text for each in found[0].words] == ["w5001"]
    assert found[0] == found[1]
    assert len(service.engine.asked) == 2
    assert service.cache.entries == {}
    assert service.cleanups == []
    assert service.worker.windows == 0
    await service.stage.close()


async def test_windows_are_computed_beside_a_recording() -> None:
    service = Service()
    audio = pcm()
    await service.stage.start()
    with service.worker.admit(1.0), service.worker.admit(1.0):  # all places for recordings
        assert (await service.read()).words
    events = service.stage.run(
        digest_of(audio), TranscriptionOptions(), scheduling=INTERACTIVE, skip_cache=False, chunks=chunks_of(audio)
    )
    assert isinstance([event async for event in events][-1], Finished)
    assert service.cleanups
    await service.stage.close()


async def test_too_many_windows_are_refused() -> None:
    service = Service()
    with service.worker.admit_window(), service.worker.admit_window(), pytest.raises(Overloaded):
        await service.read()
    assert (await service.read()).words
    await service.stage.close()


async def test_a_window_that_fails_raises_its_error() -> None:
    service = Service()
    service.engine.failures.append(OutOfMemory("too little memory"))

    with pytest.raises(OutOfMemory):
        await service.read()

    assert service.worker.windows == 0
    assert (await service.read()).words
    await service.stage.close()


async def test_models_are_loaded_for_a_window_and_stay_while_it_is_computed() -> None:
    service = Service(idle_release_seconds=0.01)
    await service.stage.start()
    await until(lambda: not service.engine.loaded)
    for _ in range(3):
        assert (await service.read()).words
        await until(lambda: not service.engine.loaded)
    assert service.engine.loads == 4
    await service.stage.close()
