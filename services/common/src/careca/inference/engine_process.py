"""An engine in a child process, so that unloading it releases all its memory.

Model libraries keep hundreds of megabytes that none of their calls frees: modules, thread pools, and on a GPU the whole
context. The end of the process frees all of it, and a crash of a library costs one task and not the service. The child
process exists while the engine is loaded.

The parent sends a command and, for an inference, a descriptor of the audio's file. The child answers with events and
then with one outcome. It runs one command at a time.
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
from careca.inference.engine import CancelToken, Emit, Engine
from careca.resources.memory import freeze_objects, trim_heap
from careca.settings import ServiceSettings
from careca.telemetry import logs
from careca.types import SAMPLE_BYTES, GpuMemory

S = TypeVar("S", bound=ServiceSettings)
O = TypeVar("O")  # noqa: E741 - options
R = TypeVar("R")

_BuildEngine = Callable[[Any], Engine[Any, Any]]

_POLL_SECONDS = 0.05
"""How often the parent checks for a cancellation while it waits for an event."""

_STOP_SECONDS = 5.0

# Children are spawned and not forked: forking a process with gRPC's threads is not safe.
_processes = multiprocessing.get_context("spawn")

_log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The result or error of a command, and the GPU memory in use at its end."""

    value: Any = None
    error: Exception | None = None
    gpu_memory: GpuMemory = field(default_factory=GpuMemory)


class EngineProcess(Generic[O, R]):
    """An ``Engine`` that works in a child process, one task at a time."""

    def __init__(self, build: Callable[[S], Engine[O, R]], settings: S) -> None:
        """Starts the child process to get the names of its model and device. Raises what ``build`` raises.

        Args:
            build: creates the engine in the child: a function of a module that imports no model library at the top.
            settings: passed to ``build``; the child also takes its log settings from them.
        """
        self._build: _BuildEngine = build
        self._settings: ServiceSettings = settings
        self._lock = threading.Lock()
        self._gpu_memory = GpuMemory()
        self._loaded = False
        self._child: _ChildProcess | None = None
        try:
            self._description: tuple[str, str] = self._run("describe")
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
        """Whether the child process is running and has loaded the weights."""
        return self._loaded and self._child is not None and self._child.alive

    def load(self) -> None:
        """Loads the weights, in a new child process if there is none; does nothing if they are loaded.

        Raises what the engine raises, and ``OutOfMemory`` or ``InternalError`` if the child process dies.
        """
        with self._lock:
            if not self.loaded:
                self._run("load")
                self._loaded = True

    def unload(self) -> None:
        """Ends the child process, if there is one."""
        with self._lock:
            self._end()

    def gpu_memory(self) -> GpuMemory:
        """The GPU memory in use at the end of the last command; zero without a child process."""
        return self._gpu_memory

    def release_gpu_cache(self) -> None:
        """Makes the child process collect garbage and release free memory of the GPU and of the system."""
        with self._lock:
            if self.loaded:
                self._run("clean_up")

    def infer(self, audio: Audio, options: O, cancel: CancelToken, emit: Emit) -> R:
        """Returns the result of the engine and emits its events.

        Raises what the engine raises, and ``OutOfMemory`` or ``InternalError`` if the child process dies.
        """
        with self._lock:
            if not self._child:
                raise InternalError("an inference was requested from an engine that is not loaded")
            with self._ending_on_failure(), _descriptor_of(audio) as descriptor:
                self._child.send("infer", options, descriptor=descriptor)
                result: R = self._outcome(self._child, cancel, emit)
                return result

    def _run(self, command: str) -> Any:
        """Runs a command, in a new child process if there is none."""
        if self._child and not self._child.alive:
            self._end()
        child = self._child = self._child or _ChildProcess(self._build, self._settings)
        with self._ending_on_failure():
            child.send(command)
            return self._outcome(child, CancelToken(), lambda _: None)

    def _outcome(self, child: _ChildProcess, cancel: CancelToken, emit: Emit) -> Any:
        outcome = child.receive(cancel, emit)
        self._gpu_memory = outcome.gpu_memory
        if outcome.error:
            raise outcome.error
        return outcome.value

    @contextmanager
    def _ending_on_failure(self) -> Iterator[None]:
        """Ends the child process if it has died or its answers are out of step. A ``CarecaError`` does not end it."""
        try:
            yield
        except CarecaError:
            raise
        except (EOFError, ConnectionError) as error:
            code = self._end()
            _log.error("the engine's process died", exit_code=code)
            if code == -signal.SIGKILL:
                raise OutOfMemory(
                    "the model was killed while it worked, most likely because of too little memory"
                ) from error
            raise InternalError(f"the engine's process died with exit code {code}") from error
        except BaseException:
            self._end()
            raise

    def _end(self) -> int | None:
        """Ends the child process, if there is one, and returns its exit code."""
        child, self._child = self._child, None
        self._loaded = False
        self._gpu_memory = GpuMemory()
        return child.end() if child else None


class _ChildProcess:
    """The parent's side of one child process."""

    def __init__(self, build: _BuildEngine, settings: ServiceSettings) -> None:
        self._pipe, child_pipe = _processes.Pipe()
        self._cancelled: Event = _processes.Event()
        arguments = (child_pipe, self._cancelled, build, settings)
        self._process: SpawnProcess = _processes.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        child_pipe.close()

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def send(self, command: str, options: object = None, *, descriptor: int | None = None) -> None:
        """Sends a command, and a file if there is a ``descriptor``."""
        self._cancelled.clear()
        self._pipe.send((command, options, get_contextvars()))
        if descriptor is not None:
            reduction.send_handle(self._pipe, descriptor, self._process.pid)

    def receive(self, cancel: CancelToken, emit: Emit) -> _Outcome:
        """Emits the events of a command until it has ended. Returns its outcome."""
        while True:
            if cancel.cancelled:
                self._cancelled.set()
            if self._pipe.poll(_POLL_SECONDS):
                message = self._pipe.recv()
                if isinstance(message, _Outcome):
                    return message
                emit(message)

    def end(self) -> int | None:
        """Ends the child process, by force if necessary, and returns its exit code."""
        self._pipe.close()  # an idle child ends when it notices this
        self._process.join(_STOP_SECONDS)
        if self.alive:
            self._process.kill()
            self._process.join()
        return self._process.exitcode


def _serve(pipe: Connection, cancelled: Event, build: _BuildEngine, settings: ServiceSettings) -> None:
    """The child process: runs one command after the other until the parent closes the pipe or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and then ends this process
    logs.configure(settings.log_level, settings.log_format)
    engine: Engine[Any, Any] | None = None
    with suppress(EOFError, ConnectionError):
        while True:
            command, options, context = pipe.recv()
            audio = _receive_audio(pipe) if command == "infer" else None
            with bound_contextvars(**context):
                value, failure = None, None
                try:
                    engine = engine or build(settings)
                    if audio is not None:
                        value = engine.infer(audio, options, CancelToken(cancelled), pipe.send)
                    else:
                        value = _run(engine, command)
                except Exception as error:  # noqa: BLE001 - every failure is an answer
                    failure = _careca_error(error)
            del audio
            pipe.send(_Outcome(value, failure, engine.gpu_memory() if engine else GpuMemory()))


def _run(engine: Engine[Any, Any], command: str) -> Any:
    """Runs a command without audio."""
    match command:
        case "describe":
            return engine.model, engine.device
        case "load":
            engine.load()
            return freeze_objects()
        case "clean_up":
            gc.collect()
            engine.release_gpu_cache()
            return trim_heap()
    raise ValueError(f"there is no command {command!r}")


def _careca_error(error: Exception) -> CarecaError:
    """Returns the error for the parent. An unexpected error is logged here, because only here is its traceback."""
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
    """Returns a descriptor of a file with ``audio``: its own, or a new one in memory."""
    if audio.descriptor is not None:
        yield audio.descriptor
        return
    with os.fdopen(os.memfd_create("careca-audio"), "wb") as file:
        file.write(np.ascontiguousarray(audio.samples, dtype="<i2").tobytes())
        file.flush()
        yield file.fileno()
