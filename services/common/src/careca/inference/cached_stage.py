"""The flow of both model services: look the result up by digest, else ask for the audio, compute once, store, clean up.

    digest -> cache -> flight -> place -> audio -> slot -> load, infer, clean up -> cache -> result
              hit: result
                       shared: result

A flight makes identical callers wait for one of them, a place bounds how many others may wait, a slot is a share of the
device. Whoever waits for another's result holds neither place nor slot, and is not asked for audio.
"""

from __future__ import annotations

import asyncio
import struct
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from google.protobuf.message import Message

from careca.cache.port import CacheOutcome, ResultCache, cache_key
from careca.errors import InvalidRequest, OutOfMemory
from careca.inference.audio import Audio, AudioSpool
from careca.inference.engine import CancelToken, Engine
from careca.inference.task_log import TaskLog
from careca.inference.worker import Done, Worker
from careca.resources.memory import MemoryKeeper, measure
from careca.settings import ModelServiceSettings
from careca.telemetry import tracing
from careca.telemetry.logs import get_logger
from careca.telemetry.metrics import ModelServiceMetrics
from careca.types import (
    SAMPLE_BYTES,
    SAMPLE_RATE,
    CacheClearance,
    ClearScope,
    Digest,
    MemoryRelease,
    ModelServiceStats,
    Progress,
    Segment,
    Stage,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

O = TypeVar("O", bound="DataclassInstance")  # noqa: E741 - options
R = TypeVar("R")
M = TypeVar("M", bound=Message)

Event = Progress | Segment
Emit = Callable[[Event], None]

_COMPUTE_SECONDS = struct.Struct("<d")
"""What a cached result begins with: how long it took to compute, and so what answering it again saves."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AudioNeeded:
    """The result is not known: chunks are read from now on."""


@dataclass(frozen=True, slots=True)
class Finished(Generic[M]):
    """The result's message, and whether it was computed for another call."""

    message: M
    cached: bool


class CachedStage(Generic[O, R, M]):
    """One model behind its cache.

    Args:
        stage: the stage that the model does.
        schema: version of the result's layout and of the algorithm around the model; part of every cache key.
        engine: the model.
        infer: computes a result; runs in a thread.
        encode: the result's message; what is cached is this message, serialized, behind the time that it took.
        message_type: the message's class, which a cached result is parsed with.
        cache: results by key.
        worker: the threads; all work on the engine goes through it.
        memory: cleans up after each task.
        metrics: what to count in.
        settings: limits.
    """

    def __init__(
        self,
        *,
        stage: Stage,
        engine: Engine,
        infer: Callable[[Audio, O, CancelToken, Emit], R],
        encode: Callable[[R], M],
        message_type: type[M],
        cache: ResultCache,
        worker: Worker,
        memory: MemoryKeeper,
        metrics: ModelServiceMetrics,
        settings: ModelServiceSettings,
        schema: int = 1,
    ) -> None:
        self._stage = stage
        self._schema = schema
        self._engine = engine
        self._infer = infer
        self._encode = encode
        self._message_type = message_type
        self._cache = cache
        self._worker = worker
        self._memory = memory
        self._metrics = metrics
        self._settings = settings
        self._used = asyncio.Event()
        self._idle_release: asyncio.Task[None] | None = None

    async def run(
        self, audio: Digest, options: O, *, skip_cache: bool, chunks: AsyncIterator[bytes]
    ) -> AsyncGenerator[AudioNeeded | Event | Finished[M], None]:
        """Answers one call: ``AudioNeeded`` where audio must be sent, then progress and segments, then ``Finished``.

        Closing the generator or cancelling its consumer stops the work within a batch and cleans up after it.

        Raises ``InvalidRequest`` where the audio is too long, of odd size or not what its digest announced,
        ``Overloaded`` where all places are taken, and what the engine raises.
        """
        self._check_size(audio)
        key = cache_key(schema=self._schema, model=self._engine.model, audio=audio, options=options)
        with TaskLog(self._stage, audio) as task:
            if (value := await self._look_up(key, skip_cache=skip_cache)) is not None:
                yield self._finished(task, value, CacheOutcome.HIT)
                return
            task.cache = CacheOutcome.BYPASS if skip_cache else CacheOutcome.MISS
            async with self._cache.flight(key, recompute=skip_cache) as flight:
                if flight.value is not None:
                    yield self._finished(task, flight.value, CacheOutcome.COALESCED)
                    return
                with self._worker.admit():
                    async with aclosing(self._compute(audio, options, chunks, task)) as events:
                        async for event in events:
                            if isinstance(event, Done):
                                await self._cache.put(key, event.result)
                                yield self._finished(task, event.result, task.cache)
                            else:
                                yield event

    async def stats(self) -> ModelServiceStats:
        """The live state of the cache, the memory, the models and the work."""
        cache, memory = await asyncio.gather(self._cache.stats(), asyncio.to_thread(measure, self._engine))
        return ModelServiceStats(
            cache=cache,
            memory=memory,
            models_loaded=self._engine.loaded,
            model=self._engine.model,
            device=self._engine.device,
            in_flight=self._worker.in_flight,
            waiting=self._worker.waiting,
        )

    async def clear_cache(self, scope: ClearScope) -> tuple[CacheClearance, MemoryRelease]:
        """Clears the cache; ``ALL`` unloads the models too, once no task computes.

        Raises ``Unavailable`` where Redis cannot be reached; nothing is cleared or unloaded then.
        """
        before = await asyncio.to_thread(measure, self._engine)
        clearance = await self._cache.clear(scope)
        _log.info("cache cleared", scope=scope, entries=clearance.removed_entries, size_bytes=clearance.removed_bytes)
        if scope is ClearScope.ALL:
            return clearance, await self.release_memory()
        return clearance, MemoryRelease(before=before, after=await asyncio.to_thread(measure, self._engine))

    async def release_memory(self) -> MemoryRelease:
        """Waits until no task computes, unloads the models and gives their memory back; the next task loads them."""
        return await self._worker.exclusive(self._memory.release)

    async def warm_up(self) -> None:
        """Loads the models. Raises ``PreconditionFailed`` where weights are missing or damaged."""
        await self._worker.run(self._engine.load)

    async def start(self) -> None:
        """Warms up and, where the settings say so, begins to give memory back after idle times."""
        await self.warm_up()
        await self._cache.stats()  # so that the metrics say what the cache holds before the first call
        if self._settings.idle_release_seconds:
            self._idle_release = asyncio.create_task(self._release_when_idle(self._settings.idle_release_seconds))

    async def close(self) -> None:
        """Waits for the threads and lets go of everything. No call may be in flight."""
        if self._idle_release:
            self._idle_release.cancel()
            with suppress(asyncio.CancelledError):
                await self._idle_release
        await self._worker.drain()
        self._worker.close()
        await asyncio.to_thread(self._engine.unload)
        await self._cache.close()

    def _check_size(self, audio: Digest) -> None:
        seconds = audio.size_bytes / SAMPLE_BYTES / SAMPLE_RATE
        if audio.size_bytes % SAMPLE_BYTES:
            raise InvalidRequest(
                f"16-bit audio has an even number of bytes, not {audio.size_bytes}",
                field="config.audio.size_bytes",
                metadata={"size_bytes": str(audio.size_bytes)},
            )
        if seconds > self._settings.max_audio_seconds:
            raise InvalidRequest(
                f"the audio is {seconds:.0f} s long; at most {self._settings.max_audio_seconds:.0f} s are accepted",
                reason="AUDIO_TOO_LONG",
                field="config.audio.size_bytes",
                metadata={"max_audio_seconds": str(self._settings.max_audio_seconds)},
            )

    async def _look_up(self, key: str, *, skip_cache: bool) -> bytes | None:
        if skip_cache:
            self._metrics.cache_requested(CacheOutcome.BYPASS)
            return None
        return await self._cache.get(key)

    def _finished(self, task: TaskLog, value: bytes, outcome: CacheOutcome) -> Finished[M]:
        task.cache = outcome
        task.succeeded = True
        cached = outcome in (CacheOutcome.HIT, CacheOutcome.COALESCED)
        self._metrics.observe_stage(self._stage, task.seconds, cached=cached)
        if cached:
            self._metrics.cache_saved(*_COMPUTE_SECONDS.unpack_from(value))
        return Finished(self._message_type.FromString(value[_COMPUTE_SECONDS.size :]), cached)

    async def _compute(
        self, digest: Digest, options: O, chunks: AsyncIterator[bytes], task: TaskLog
    ) -> AsyncGenerator[AudioNeeded | Event | Done[bytes], None]:
        """Receives the audio and infers; the last thing it yields is what is cached."""
        try:
            with AudioSpool(digest, self._settings.spool_dir) as spool:
                yield AudioNeeded()
                async for chunk in chunks:
                    await asyncio.to_thread(spool.write, chunk)
                held = [spool.finish()]
                yield Progress(self._stage, 0.0)
                async with aclosing(self._worker.stream(partial(self._work, held, options, task))) as events:
                    async for event in events:
                        yield event
        finally:
            self._used.set()

    def _work(self, held: list[Audio], options: O, task: TaskLog, cancel: CancelToken, emit: Emit) -> bytes:
        """Runs in a thread. ``held`` has the only reference to the audio, so that the cleanup finds it dropped."""
        began = time.monotonic()
        try:
            with tracing.span("compute", stage=self._stage.value, audio_seconds=held[0].duration):
                self._engine.load()
                self._metrics.count_audio(self._stage, held[0].duration)
                message = self._encode(self._infer(held[0], options, cancel, emit)).SerializeToString()
            return _COMPUTE_SECONDS.pack(time.monotonic() - began) + message
        except BaseException as error:
            if isinstance(error, OutOfMemory):
                self._metrics.out_of_memory()
            # The traceback is still to be logged, but would keep what the model held from being collected.
            traceback.clear_frames(error.__traceback__)
            raise
        finally:
            held.clear()
            task.memory = self._memory.clean_up()

    async def _release_when_idle(self, seconds: float) -> None:
        """Gives memory back whenever no task has ended for ``seconds`` and none is there."""
        while True:
            self._used.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._used.wait()
            except TimeoutError:
                if self._engine.loaded and not (self._worker.in_flight or self._worker.waiting):
                    _log.info("idle: giving memory back", idle_seconds=seconds)
                    await self.release_memory()
