"""The loops of an engine: each takes calls from a queue, and computes one batch after the other for its requests.

An engine has one loop. If it can do two things at the same time, it has a second one for windows of live audio: a batch
of a recording takes seconds on a CPU, and live words would wait for its end.
"""

from __future__ import annotations

import contextvars
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeAlias

from careca.errors import CarecaError, InternalError
from careca.inference.audio import Audio
from careca.inference.engine import Engine, Work
from careca.inference.preparation import Prepare, PreparedResults, with_prepared
from careca.inference.scheduler import Ended, Scheduler
from careca.inference.shared_engine import CleanedUp, Computed, Notice, Outcome
from careca.resources.disk import disk_full, is_full
from careca.resources.memory import MemoryCleaner
from careca.settings import ModelServiceSettings
from careca.telemetry import logs
from careca.types import Scheduling, SchedulingClass

_log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Infer:
    """Takes a request in hand."""

    number: int
    audio: Audio
    options: Any
    scheduling: Scheduling
    context: contextvars.Context


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancels a request."""

    number: int


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Runs a function between two batches."""

    number: int
    function: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Stop:
    """Ends the loop after the current batch."""


Command: TypeAlias = Infer | Cancel | Run | Stop


class EngineLoops:
    """Runs everything that one engine does. Arguments as of ``EngineLoop``; ``tell`` may be called in two threads."""

    def __init__(self, engine: Engine[Any, Any], *, share: bool, tell: Callable[[int, Notice | Outcome], None]) -> None:
        self._main = EngineLoop(engine, share=share, tell=tell)
        self._live = EngineLoop(engine, share=share, tell=tell) if engine.parallel_live else None
        self._failure: Exception | None = None

    def put(self, command: Command) -> None:
        """Adds a command. May be called from any thread."""
        is_live = isinstance(command, Infer) and command.scheduling.scheduling_class is SchedulingClass.LIVE
        if self._live and (is_live or isinstance(command, Cancel | Stop)):
            self._live.put(command)
        if not (self._live and is_live):
            self._main.put(command)

    def run(self) -> None:
        """Works until a ``Stop``. Raises the error of a loop that fails."""
        if self._live is None:
            self._main.run()
            return
        live = threading.Thread(target=self._run_live, name="careca-engine-live", daemon=True)
        live.start()
        self._main.run()
        live.join()
        if self._failure:
            raise self._failure

    def _run_live(self) -> None:
        assert self._live  # noqa: S101 - for the type checker
        try:
            self._live.run()
        except Exception as error:  # noqa: BLE001 - it is raised in the main thread
            self._failure = error
            self._main.put(Stop())


class EngineLoop:
    """Computes the batches of some requests, in the thread that calls ``run``.

    Args:
        engine: the models.
        share: whether batches may have items of several requests.
        tell: gets all messages, with the number of their call, in the thread of the loop.
    """

    def __init__(self, engine: Engine[Any, Any], *, share: bool, tell: Callable[[int, Notice | Outcome], None]) -> None:
        self._engine = engine
        self._tell = tell
        self._scheduler = Scheduler(share=share, clock=time.monotonic)
        self._memory = MemoryCleaner(engine)
        self._prepared = PreparedResults()
        self._commands: SimpleQueue[Command] = SimpleQueue()

    def put(self, command: Command) -> None:
        """Adds a command. May be called from any thread."""
        self._commands.put(command)

    def run(self) -> None:
        """Works until a ``Stop``."""
        while True:
            while self._commands.qsize() or not len(self._scheduler):
                command = self._commands.get()
                if isinstance(command, Stop):
                    return
                self._handle(command)
                del command  # it has the audio
            self._step()

    def _handle(self, command: Infer | Cancel | Run) -> None:
        match command:
            case Infer(number, audio, options, scheduling, context):
                self._scheduler.add(number, self._work(audio, options, scheduling), scheduling, context)
            case Cancel(number):
                if ended := self._scheduler.cancel(number):
                    self._end(number, ended)
            case Run(number, function):
                try:
                    function()
                except Exception as error:  # noqa: BLE001 - every failure is an answer
                    self._tell(number, Outcome(error=careca_error(error)))
                else:
                    self._tell(number, Outcome(gpu_memory=self._engine.gpu_memory()))

    def _work(self, audio: Audio, options: Any, scheduling: Scheduling) -> Work[Any]:
        if isinstance(options, Prepare):
            return with_prepared(self._engine.infer(audio, options.options), self._prepared, keep=True)
        work = self._engine.infer(audio, options)
        if len(self._prepared) and scheduling.scheduling_class is not SchedulingClass.LIVE:
            return with_prepared(work, self._prepared, keep=False)
        return work

    def _step(self) -> None:
        ends = []
        for number, occurrence in self._scheduler.step():
            if isinstance(occurrence, Ended):
                ends.append((number, occurrence))
            else:
                self._tell(number, occurrence)
        for number, ended in ends:
            self._end(number, ended)

    def _end(self, number: int, ended: Ended) -> None:
        """Gives memory back, before the next batch, and answers the call.

        Windows of live audio are too short and too many for that. The recording that they become is a request too.
        """
        value = None if ended.error else Computed(ended.value, ended.seconds, ended.waited_seconds)
        error = careca_error(ended.error) if ended.error else None
        if ended.scheduling_class is not SchedulingClass.LIVE:
            self._tell(number, CleanedUp(self._memory.clean_up()))
        self._tell(number, Outcome(value, error, self._engine.gpu_memory()))


def shares_batches(settings: ModelServiceSettings, device: str) -> bool:
    """Returns whether batches on ``device`` may have items of several requests."""
    return settings.share_batches == "on" or (settings.share_batches == "auto" and device != "cpu")


def careca_error(error: Exception) -> CarecaError:
    """Returns the error for the caller, without the data of the work. An unexpected one is logged, with its traceback.

    Its text stays here, because it may contain what was said.
    """
    if is_full(error):
        _log.error("the disk is full", error=str(error))
        error = disk_full()
    if not isinstance(error, CarecaError):
        _log.error("the engine failed unexpectedly", exc_info=error)
    cause: BaseException | None = error
    while cause:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, CarecaError):
        return error.with_traceback(None)
    return InternalError(f"the engine failed unexpectedly: {type(error).__name__}")
