"""The flow of both model services: look up the result by digest; on a miss request the audio, compute, store, clean up.

    digest -> cache -> flight -> place -> audio -> load, infer, clean up -> cache -> result
              hit: result
                       shared: result

A flight makes all callers with the same key wait for the first one, whose scheduling counts. Places bound how many
tasks there are. All tasks with audio compute at the same time: the engine divides the device among them. A caller that
waits for the result of another has no place and sends no audio.
"""

from __future__ import annotations

import asyncio
import struct
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from google.protobuf.message import Message

from careca.cache.port import CacheOutcome, ResultCache, cache_key
from careca.cancellation import cancel_and_wait
from careca.errors import InternalError, InvalidRequest, OutOfMemory
from careca.inference.audio import Audio, AudioSpool
from careca.inference.engine import Event
from careca.inference.metrics import ModelServiceMetrics
from careca.inference.preparation import Prepare
from careca.inference.scheduler import Started, Step
from careca.inference.shared_engine import CancelToken, CleanedUp, Notice, SharedEngine
from careca.inference.task_log import TaskLog
from careca.inference.worker import Done, Place, Worker
from careca.resources.memory import MemoryCleaner, measure_memory
from careca.settings import ModelServiceSettings
from careca.telemetry import tracing
from careca.telemetry.logs import get_logger
from careca.types import (
    SAMPLE_BYTES,
    SAMPLE_RATE,
    CacheClearance,
    ClearScope,
    Digest,
    MemoryRelease,
    ModelServiceStats,
    Progress,
    Scheduling,
    Stage,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

O = TypeVar("O", bound="DataclassInstance")  # noqa: E741 - options
R = TypeVar("R")
M = TypeVar("M", bound=Message)

_COMPUTE_SECONDS = struct.Struct("<d")
"""Header of a cached result: the seconds of the device that it took, which is what a hit saves."""

_log = get_logger(__name__)

_Work = Callable[[list[Audio], CancelToken, Callable[[Event], None]], bytes]


@dataclass(frozen=True, slots=True)
class AudioNeeded:
    """The result is not cached: the audio's chunks are read from now on."""


@dataclass(frozen=True, slots=True)
class Finished(Generic[M]):
    """The message of the result, and whether it was computed for another call."""

    message: M
    cached: bool


@dataclass(kw_only=True, eq=False)
class CachedStage(Generic[O, R, M]):
    """One model behind its cache."""

    stage: Stage
    schema: int = 1
    """Version of the result's layout and of the algorithm around the model; part of every cache key."""
    engine: SharedEngine[Any, Any]
    """Gives ``R`` for ``O``. Those of live audio give other results for windows."""
    encode: Callable[[R], M]
    """Converts a result to its message. The cache stores the serialized message after the compute time."""
    message_type: type[M]
    """The class of the message, to parse a cached result."""
    cache: ResultCache
    worker: Worker
    """The tasks and their threads."""
    memory: MemoryCleaner
    metrics: ModelServiceMetrics
    settings: ModelServiceSettings

    def __post_init__(self) -> None:
        self._used = asyncio.Event()
        self._idle_release: asyncio.Task[None] | None = None

    async def run(
        self, audio: Digest, options: O, *, scheduling: Scheduling, skip_cache: bool, chunks: AsyncIterator[bytes]
    ) -> AsyncGenerator[AudioNeeded | Event | Finished[M], None]:
        """Answers one call: ``AudioNeeded`` if the result is not cached, then progress and segments, then ``Finished``.

        Closing the generator or cancelling its consumer stops the work after the current batch and cleans up.

        Raises ``InvalidRequest`` if the audio is too long, has an odd size or does not match its digest, ``Overloaded``
        if all places are taken, and what the engine raises.
        """
        self._check_size(audio)
        key = cache_key(schema=self.schema, model=self.engine.model, audio=audio, options=options)
        with TaskLog(self.stage, audio) as task:
            if (value := await self._look_up(key, skip_cache=skip_cache)) is not None:
                yield self._finished(task, value, CacheOutcome.HIT)
                return
            task.cache = CacheOutcome.BYPASS if skip_cache else CacheOutcome.MISS
            async with self.cache.flight(key, recompute=skip_cache) as value:
                if value is not None:
                    yield self._finished(task, value, CacheOutcome.COALESCED)
                    return
                with self.worker.admit(_seconds_of(audio)) as place:
                    work = partial(self._work, options=options, scheduling=scheduling, place=place, task=task)
                    async with aclosing(self._compute(audio, chunks, work)) as events:
                        async for event in events:
                            if isinstance(event, Done):
                                await self.cache.put(key, event.result)
                                yield self._finished(task, event.result, task.cache)
                            else:
                                yield event

    async def prepare(
        self, audio: Digest, options: O, *, scheduling: Scheduling, chunks: AsyncIterator[bytes]
    ) -> AsyncGenerator[AudioNeeded, None]:
        """Computes what a later task, whose audio begins with ``audio``, needs too. Yields ``AudioNeeded``, and ends.

        Nothing is cached: see ``careca.inference.preparation``. Raises as ``run``.
        """
        self._check_size(audio)

        def work(cancel: CancelToken, _emit: Callable[[Event], None], held: list[Audio]) -> None:
            self.engine.load()
            try:
                self.engine.infer(held[0], Prepare(options), scheduling, cancel, self._count_step)
            finally:
                held.clear()

        try:
            with self.worker.admit(_seconds_of(audio)), AudioSpool(audio, self.settings.spool_dir) as spool:
                yield AudioNeeded()
                async for chunk in chunks:
                    await asyncio.to_thread(spool.write, chunk)
                async with aclosing(self.worker.stream(partial(work, held=[spool.finish()]))) as events:
                    async for _ in events:
                        pass
        finally:
            self._used.set()

    async def compute_window(self, audio: bytes, window: Any, scheduling: Scheduling) -> Any:
        """Returns what the engine finds for a window of live audio: 16 kHz mono 16-bit PCM. Nothing is cached.

        Raises ``Overloaded`` if all places for windows are taken, and what the engine raises.
        """
        samples = Audio(np.frombuffer(audio, dtype="<i2"))

        def work(cancel: CancelToken, _emit: Callable[[Event], None]) -> Any:
            self.engine.load()
            computed = self.engine.infer(samples, window, scheduling, cancel, self._count_step)
            self.metrics.observe_wait(scheduling.scheduling_class, computed.waited_seconds)
            return computed.result

        try:
            with self.worker.admit_window():
                async with aclosing(self.worker.stream(work)) as events:
                    async for event in events:
                        if isinstance(event, Done):
                            return event.result
        finally:
            self._used.set()
        raise InternalError("the work on a window ended without a result")

    async def stats(self) -> ModelServiceStats:
        """Returns the current state of the cache, the memory, the models and the work."""
        cache, memory = await asyncio.gather(self.cache.stats(), asyncio.to_thread(measure_memory, self.engine))
        return ModelServiceStats(
            cache=cache,
            memory=memory,
            models_loaded=self.engine.loaded,
            model=self.engine.model,
            device=self.engine.device,
            in_flight=self.worker.in_flight,
            waiting=self.worker.waiting,
        )

    async def clear_cache(self, scope: ClearScope) -> tuple[CacheClearance, MemoryRelease]:
        """Clears the cache. ``ALL`` unloads the models too, as soon as no task computes.

        Raises ``Unavailable`` if Redis cannot be reached; then nothing is cleared or unloaded.
        """
        before = await asyncio.to_thread(measure_memory, self.engine)
        clearance = await self.cache.clear(scope)
        _log.info("cache cleared", scope=scope, entries=clearance.removed_entries, size_bytes=clearance.removed_bytes)
        if scope is ClearScope.ALL:
            return clearance, await self.release_memory()
        return clearance, MemoryRelease(before=before, after=await asyncio.to_thread(measure_memory, self.engine))

    async def release_memory(self) -> MemoryRelease:
        """Waits until no task computes, unloads the models and releases memory. The next task loads them again.

        Tasks that come in the meantime wait for it.
        """
        return await self.worker.run_alone(self.memory.release)

    async def warm_up(self) -> None:
        """Loads the models. Raises ``PreconditionFailed`` if weights are missing or damaged."""
        await self.worker.run_alone(self.engine.load)

    async def start(self) -> None:
        """Warms up and, if configured, starts to release memory after idle times."""
        await self.warm_up()
        await self.cache.stats()  # sets the metrics of the cache before the first call
        if self.settings.idle_release_seconds:
            self._idle_release = asyncio.create_task(self._release_when_idle(self.settings.idle_release_seconds))

    async def close(self) -> None:
        """Waits for the threads and releases everything. No call may be in flight."""
        await cancel_and_wait((self._idle_release,))
        await self.worker.close()
        await asyncio.to_thread(self.engine.unload)
        await self.cache.close()

    def _count_step(self, occurred: Notice) -> None:
        if isinstance(occurred, Step):
            self.metrics.count_step(occurred)

    def _check_size(self, audio: Digest) -> None:
        seconds = _seconds_of(audio)
        if audio.size_bytes % SAMPLE_BYTES:
            raise InvalidRequest(
                f"16-bit audio has an even number of bytes, not {audio.size_bytes}",
                field="config.audio.size_bytes",
                metadata={"size_bytes": str(audio.size_bytes)},
            )
        if seconds > self.settings.max_audio_seconds:
            raise InvalidRequest(
                f"the audio is {seconds:.0f} s long; at most {self.settings.max_audio_seconds:.0f} s are accepted",
                reason="AUDIO_TOO_LONG",
                field="config.audio.size_bytes",
                metadata={"max_audio_seconds": str(self.settings.max_audio_seconds)},
            )

    async def _look_up(self, key: str, *, skip_cache: bool) -> bytes | None:
        if skip_cache:
            self.metrics.cache_requested(CacheOutcome.BYPASS)
            return None
        return await self.cache.get(key)

    def _finished(self, task: TaskLog, value: bytes, outcome: CacheOutcome) -> Finished[M]:
        task.cache = outcome
        task.succeeded = True
        cached = outcome in (CacheOutcome.HIT, CacheOutcome.COALESCED)
        self.metrics.observe_stage(self.stage, task.seconds, cached=cached)
        if cached:
            self.metrics.cache_saved(*_COMPUTE_SECONDS.unpack_from(value))
        return Finished(self.message_type.FromString(value[_COMPUTE_SECONDS.size :]), cached)

    async def _compute(
        self, digest: Digest, chunks: AsyncIterator[bytes], work: _Work
    ) -> AsyncGenerator[AudioNeeded | Event | Done[bytes], None]:
        """Receives the audio and infers. The last item is the value for the cache."""
        try:
            with AudioSpool(digest, self.settings.spool_dir) as spool:
                yield AudioNeeded()
                async for chunk in chunks:
                    await asyncio.to_thread(spool.write, chunk)
                held = [spool.finish()]
                yield Progress(self.stage, 0.0)
                async with aclosing(self.worker.stream(partial(work, held))) as events:
                    async for event in events:
                        yield event
        finally:
            self._used.set()

    def _work(
        self,
        held: list[Audio],
        cancel: CancelToken,
        emit: Callable[[Event], None],
        *,
        options: O,
        scheduling: Scheduling,
        place: Place,
        task: TaskLog,
    ) -> bytes:
        """Runs in a thread. ``held`` has the only reference to the audio, so that the cleanup can free it."""
        released: MemoryRelease | None = None

        def notice(occurred: Notice) -> None:
            nonlocal released
            match occurred:
                case Started():
                    place.computing = True
                case Step():
                    self.metrics.count_step(occurred)
                case CleanedUp(memory):
                    released = memory
                case _:
                    place.fraction = occurred.fraction if isinstance(occurred, Progress) else place.fraction
                    emit(occurred)

        try:
            with tracing.span("compute", stage=self.stage.value, audio_seconds=held[0].duration):
                self.engine.load()
                self.metrics.count_audio(self.stage, held[0].duration)
                computed = self.engine.infer(held[0], options, scheduling, cancel, notice)
            self.worker.measured(held[0].duration, computed.seconds)
            self.metrics.observe_wait(scheduling.scheduling_class, computed.waited_seconds)
            task.compute_seconds = computed.seconds
            return _COMPUTE_SECONDS.pack(computed.seconds) + self.encode(computed.result).SerializeToString()
        except BaseException as error:
            if isinstance(error, OutOfMemory):
                self.metrics.out_of_memory()
            # The traceback is logged later. Without this it would keep the model's data alive.
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            held.clear()
            task.memory = self.memory.clean_up(released)

    async def _release_when_idle(self, seconds: float) -> None:
        """Releases memory whenever there is no task and none has ended for ``seconds``."""
        while True:
            self._used.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._used.wait()
            except TimeoutError:
                if self.engine.loaded and not (self.worker.in_flight or self.worker.waiting or self.worker.windows):
                    _log.info("idle: giving memory back", idle_seconds=seconds)
                    await self.release_memory()


def _seconds_of(audio: Digest) -> float:
    return audio.size_bytes / SAMPLE_BYTES / SAMPLE_RATE
