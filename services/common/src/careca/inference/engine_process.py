"""An engine in a process of its own, so that unloading it gives everything back.

Model libraries keep hundreds of megabytes that no call of theirs frees: modules, thread pools, and on a GPU the whole
context. The end of a process frees all of it, and a crash of a library costs a task rather than the service. The
process is there while the engine is loaded.

The parent sends a command, and for an inference a descriptor of the audio's file; the process answers with events, then
with one outcome. It does one thing at a time.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import reduction
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from typing import Any, Generic, TypeVar

import numpy as np
from structlog.contextvars import bound_contextvars, get_contextvars

from careca.errors import CarecaError, InternalError, OutOfMemory
from careca.inference.audio import Audio
from careca.inference.engine import CancelToken, Engine
from careca.resources.memory import settle, trim_heap
from careca.settings import ServiceSettings
from careca.telemetry import logs
from careca.types import SAMPLE_BYTES, GpuMemory

S = TypeVar("S", bound=ServiceSettings)

_Tools = tuple[CancelToken, Callable[[Any], None]]
"""What an inference gets beside its audio and options: how to be cancelled, and how to tell what it finds."""

_POLL_SECONDS = 0.05
"""How often a parent that waits for an event looks whether it is to cancel."""

_STOP_SECONDS = 5.0

# Processes are started anew and not forked: a fork of a process with gRPC's threads is not safe.
_processes = multiprocessing.get_context("spawn")

_log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe(Generic[S]):
    """How the process makes its engine. It is sent there, ``build`` by its name."""

    build: Callable[[S], Engine]
    """Makes the engine. A function of a module that imports no model library by itself."""
    settings: S
    """What it makes the engine of; logs are written as these say, too."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a command ended, with the GPU memory that was held then."""

    value: Any = None
    error: Exception | None = None
    gpu_memory: GpuMemory = field(default_factory=GpuMemory)


class EngineProcess(Engine):
    """An ``Engine`` whose work is done in a process of its own, one task at a time."""

    def __init__(self, recipe: Recipe[Any]) -> None:
        """Starts the process, to learn what it would load. Raises what making the engine raises."""
        self._recipe = recipe
        self._turn = threading.Lock()
        self._gpu_memory = GpuMemory()
        self._loaded = False
        self._child: _Child | None = None
        try:
            self._description: tuple[str, str] = self._command("describe")
        except BaseException:
            self._end()
            raise

    @property
    def model(self) -> str:
        """Ids of the models and short digests of their weights."""
        return self._description[0]

    @property
    def device(self) -> str:
        """The device that computes."""
        return self._description[1]

    @property
    def loaded(self) -> bool:
        """Whether the process is there with the weights in its memory."""
        return self._loaded and self._child is not None and self._child.alive

    def load(self) -> None:
        """Has the weights loaded, in a new process where there is none; does nothing where they are.

        Raises what the engine raises, and ``OutOfMemory`` or ``InternalError`` where the process dies of it.
        """
        with self._turn:
            if not self.loaded:
                self._command("load")
                self._loaded = True

    def unload(self) -> None:
        """Ends the process; does nothing where there is none."""
        with self._turn:
            self._end()

    def gpu_memory(self) -> GpuMemory:
        """What was held of the GPU's memory at the end of the last command; nothing without the process."""
        return self._gpu_memory

    def release_gpu_cache(self) -> None:
        """Has the process collect garbage and give its free memory back, the GPU's and the system's."""
        with self._turn:
            if self.loaded:
                self._command("clean_up")

    def infer(
        self, method: str, audio: Audio, options: object, *, cancel: CancelToken, emit: Callable[[Any], None]
    ) -> Any:
        """What the engine's ``method`` returns for ``audio`` and ``options``; what it emits is emitted here.

        Raises what it raises, and ``OutOfMemory`` or ``InternalError`` where the process dies of it.
        """
        with self._turn:
            if not self._child:
                raise InternalError("an inference was asked of an engine that is not loaded")
            with self._kept(), _descriptor_of(audio) as descriptor:
                self._child.begin("infer", method, options, descriptor=descriptor)
                return self._outcome(self._child, cancel, emit)

    def _command(self, name: str) -> Any:
        """Has a command done, in a new process where there is none."""
        if self._child and not self._child.alive:
            self._end()
        child = self._child = self._child or _Child(self._recipe)
        with self._kept():
            child.begin(name)
            return self._outcome(child, CancelToken(), lambda _: None)

    def _outcome(self, child: _Child, cancel: CancelToken, emit: Callable[[Any], None]) -> Any:
        outcome = child.outcome(cancel, emit)
        self._gpu_memory = outcome.gpu_memory
        if outcome.error:
            raise outcome.error
        return outcome.value

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Ends the process where it died or what it says is not understood any more; refusals leave it as it is."""
        try:
            yield
        except CarecaError:
            raise
        except (EOFError, ConnectionError) as error:
            code = self._end()
            _log.error("the engine's process died", exit_code=code)
            if code == -signal.SIGKILL:
                raise OutOfMemory("the model was killed while it worked, most likely for want of memory") from error
            raise InternalError(f"the engine's process died with exit code {code}") from error
        except BaseException:
            self._end()
            raise

    def _end(self) -> int | None:
        """Ends the process, if there is one, and returns its exit code."""
        child, self._child = self._child, None
        self._loaded = False
        self._gpu_memory = GpuMemory()
        return child.end() if child else None


class _Child:
    """The parent's side of one process."""

    def __init__(self, recipe: Recipe[Any]) -> None:
        self._pipe, theirs = _processes.Pipe()
        self._cancelled: Event = _processes.Event()
        arguments = (theirs, self._cancelled, recipe)
        self._process: SpawnProcess = _processes.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def begin(self, name: str, *arguments: object, descriptor: int | None = None) -> None:
        """Sends a command, with a file where it needs one."""
        self._cancelled.clear()
        self._pipe.send((name, arguments, get_contextvars()))
        if descriptor is not None:
            reduction.send_handle(self._pipe, descriptor, self._process.pid)

    def outcome(self, cancel: CancelToken, emit: Callable[[Any], None]) -> _Outcome:
        """Emits what the process tells until the command has ended."""
        while True:
            if cancel.cancelled:
                self._cancelled.set()
            if self._pipe.poll(_POLL_SECONDS):
                told = self._pipe.recv()
                if isinstance(told, _Outcome):
                    return told
                emit(told)

    def end(self) -> int | None:
        """Ends the process, by force where it does not end by itself, and returns its exit code."""
        self._pipe.close()  # an idle process ends when it reads this
        self._process.join(_STOP_SECONDS)
        if self.alive:
            self._process.kill()
            self._process.join()
        return self._process.exitcode


def _serve(pipe: Connection, cancelled: Event, recipe: Recipe[Any]) -> None:
    """What the process does: commands, one after the other, until the parent closes the pipe or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends this process
    logs.configure(recipe.settings)
    engine: Engine | None = None
    with suppress(EOFError, ConnectionError):
        while True:
            name, arguments, context = pipe.recv()
            audio = _receive_audio(pipe) if name == "infer" else None
            with bound_contextvars(**context):
                value, failure = None, None
                try:
                    engine = engine or recipe.build(recipe.settings)
                    value = _do(engine, name, arguments, audio, (CancelToken(cancelled), pipe.send))
                except Exception as error:  # noqa: BLE001 - every failure is an answer
                    failure = _told(error)
            del audio
            pipe.send(_Outcome(value, failure, engine.gpu_memory() if engine else GpuMemory()))


def _do(engine: Engine, name: str, arguments: tuple[Any, ...], audio: Audio | None, tools: _Tools) -> Any:
    """Does one command."""
    match name:
        case "describe":
            return engine.model, engine.device
        case "load":
            engine.load()
            return settle()
        case "clean_up":
            gc.collect()
            engine.release_gpu_cache()
            return trim_heap()
        case "infer":
            method, options = arguments
            return getattr(engine, method)(audio, options, *tools)
    raise ValueError(f"there is no command {name!r}")


def _told(error: Exception) -> CarecaError:
    """``error`` as it is told to the parent. One that nobody expected is logged here, where its traceback is."""
    if isinstance(error, CarecaError):
        return error.with_traceback(None)
    _log.error("the engine failed unexpectedly", exc_info=error)
    return InternalError(f"the engine failed unexpectedly: {type(error).__name__}")


def _receive_audio(pipe: Connection) -> Audio:
    with os.fdopen(reduction.recv_handle(pipe), "rb") as file:
        if os.fstat(file.fileno()).st_size < SAMPLE_BYTES:
            return Audio(np.zeros(0, dtype=np.int16))
        return Audio(np.memmap(file, dtype="<i2", mode="r"))


@contextmanager
def _descriptor_of(audio: Audio) -> Iterator[int]:
    """A descriptor of a file that holds ``audio``: its own, or a new one in memory."""
    if audio.descriptor is not None:
        yield audio.descriptor
        return
    with os.fdopen(os.memfd_create("careca-audio"), "wb") as file:
        file.write(np.ascontiguousarray(audio.samples, dtype="<i2").tobytes())
        file.flush()
        yield file.fileno()
