"""A shared engine in a child process, so that unloading it releases all its memory.

Model libraries keep hundreds of megabytes that none of their calls frees: modules, thread pools, and on a GPU the whole
context. The end of the process frees all of it, and a crash of a library costs the tasks in hand and not the service.
The child process exists while the engine is loaded.

The parent sends commands and, for each request, a descriptor of the audio's file. A thread of the child reads them, and
its main thread runs the engine's loops. A thread of the parent passes the answers to the calls that wait for them.
"""

from __future__ import annotations

import contextvars
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

import numpy as np
from structlog.contextvars import bind_contextvars, get_contextvars

from careca.errors import CarecaError, InternalError, OutOfMemory
from careca.inference.audio import Audio
from careca.inference.engine import Engine
from careca.inference.engine_loop import Cancel, EngineLoops, Infer, Run, Stop, careca_error, shares_batches
from careca.inference.shared_engine import Calls, CancelToken, Computed, Emit, Notice, Outcome
from careca.resources.memory import freeze_objects, use_one_heap
from careca.settings import ModelServiceSettings
from careca.telemetry import logs
from careca.types import SAMPLE_BYTES, GpuMemory, Scheduling

S = TypeVar("S", bound=ModelServiceSettings)
O = TypeVar("O")  # noqa: E741 - options
R = TypeVar("R")

_BuildEngine = Callable[[Any], Engine[Any, Any]]

_STOP_SECONDS = 5.0

# Children are spawned and not forked: forking a process with gRPC's threads is not safe.
_processes = multiprocessing.get_context("spawn")

_log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Infer:
    """Takes a request in hand. A descriptor of the audio's file follows."""

    number: int
    options: object
    scheduling: Scheduling
    log_context: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Load:
    """Loads the weights."""

    number: int


class EngineProcess(Generic[O, R]):
    """A ``SharedEngine`` in a child process."""

    def __init__(self, build: Callable[[S], Engine[O, R]], settings: S) -> None:
        """Starts the child process to get the names of its model and device. Raises what ``build`` raises.

        Args:
            build: creates the engine in the child: a function of a module that imports no model library at the top.
            settings: passed to ``build``; the child also takes its log settings from them.
        """
        self._build: _BuildEngine = build
        self._settings: ModelServiceSettings = settings
        self._loading = threading.Lock()
        self._child: _ChildProcess | None = None
        self._description: tuple[str, str] = self._start().description

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
        child = self._child
        return child is not None and child.loaded and child.alive

    def load(self) -> None:
        """Loads the weights, in a new child process if there is none; does nothing if they are loaded.

        Raises what the engine raises, and ``OutOfMemory`` or ``InternalError`` if the child process dies.
        """
        with self._loading:
            child = self._child
            if child is None or not child.alive:
                child = self._start()
            child.load()

    def unload(self) -> None:
        """Ends the child process, if there is one."""
        with self._loading:
            child, self._child = self._child, None
            if child:
                child.end()

    def gpu_memory(self) -> GpuMemory:
        """The GPU memory in use at the end of the last call; zero without a child process."""
        child = self._child
        return child.gpu_memory if child and child.alive else GpuMemory()

    def release_gpu_cache(self) -> None:
        """Does nothing: the child process does it after each request."""

    def infer(self, audio: Audio, options: O, scheduling: Scheduling, cancel: CancelToken, emit: Emit) -> Computed[R]:
        """See ``SharedEngine.infer``. Raises ``OutOfMemory`` or ``InternalError`` if the child process dies."""
        child = self._child
        if child is None:
            raise InternalError("an inference was requested from an engine that is not loaded")
        with _descriptor_of(audio) as descriptor:
            computed: Computed[R] = child.infer(descriptor, options, scheduling, cancel, emit)
            return computed

    def _start(self) -> _ChildProcess:
        self._child = None
        child = _ChildProcess(self._build, self._settings)
        self._child = child
        return child


class _ChildProcess:
    """The parent's side of one child process."""

    def __init__(self, build: _BuildEngine, settings: ModelServiceSettings) -> None:
        """Raises what ``build`` raises in the child."""
        self._pipe, child_pipe = _processes.Pipe()
        self._sending = threading.Lock()
        self._calls = Calls()
        self._ending = False
        self._ended = False
        self.loaded = False
        self.gpu_memory = GpuMemory()
        self._process: SpawnProcess = _processes.Process(target=_serve, args=(child_pipe, build, settings), daemon=True)
        self._reader = threading.Thread(target=self._read, name="careca-engine-reader", daemon=True)

        def start(_number: int) -> None:
            self._process.start()
            child_pipe.close()
            self._reader.start()

        self.description: tuple[str, str] = self._calls.run(start).value_or_error()

    @property
    def alive(self) -> bool:
        return not self._ended

    def load(self) -> None:
        if not self.loaded:
            self._run(lambda number: self._send(_Load(number)))
            self.loaded = True

    def infer(
        self, descriptor: int, options: object, scheduling: Scheduling, cancel: CancelToken, emit: Emit
    ) -> Computed[Any]:
        def send(number: int) -> None:
            self._send(_Infer(number, options, scheduling, get_contextvars()), descriptor)

        computed: Computed[Any] = self._run(send, cancel, emit)
        return computed

    def end(self) -> None:
        """Ends the child process, by force if necessary."""
        self._ending = True
        self._send(Stop())
        self._reader.join(_STOP_SECONDS)
        if self.alive:
            self._process.kill()
            self._reader.join()

    def _run(self, send: Callable[[int], None], cancel: CancelToken | None = None, emit: Emit = lambda _: None) -> Any:
        outcome = self._calls.run(send, cancel, lambda number: self._send(Cancel(number)), emit)
        self.gpu_memory = outcome.gpu_memory
        return outcome.value_or_error()

    def _send(self, command: _Infer | _Load | Cancel | Stop, descriptor: int | None = None) -> None:
        """Sends a command, perhaps with a file. If the process has died, the reader fails the call."""
        with self._sending, suppress(OSError):
            self._pipe.send(command)
            if descriptor is not None:
                reduction.send_handle(self._pipe, descriptor, self._process.pid)

    def _read(self) -> None:
        """Passes answers on until the process ends. Only this thread waits for the process."""
        try:
            with suppress(EOFError, OSError):
                while True:
                    self._calls.deliver(*self._pipe.recv())
        finally:
            self._process.join(_STOP_SECONDS)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
            with self._sending:
                self._pipe.close()
            code = self._process.exitcode
            if code and not self._ending:
                _log.error("the engine's process died", exit_code=code)
            self._ended = True
            self._calls.fail(lambda: _death(code))


def _death(code: int | None) -> CarecaError:
    if code == -signal.SIGKILL:
        return OutOfMemory("the model was killed while it worked, most likely because of too little memory")
    return InternalError(f"the engine's process died with exit code {code}")


def _serve(pipe: Connection, build: _BuildEngine, settings: ModelServiceSettings) -> None:
    """The child process: works until the parent stops it, closes the pipe or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and then ends this process
    use_one_heap()
    logs.configure(settings.log_level, settings.log_format)
    try:
        engine = build(settings)
    except Exception as error:  # noqa: BLE001 - every failure is an answer
        pipe.send((0, Outcome(error=careca_error(error))))
        return
    sending = threading.Lock()

    def tell(number: int, message: Notice | Outcome) -> None:
        with sending, suppress(ConnectionError):  # the parent has ended: _receive stops the loops
            pipe.send((number, message))

    loops = EngineLoops(engine, share=shares_batches(settings, engine.device), tell=tell)
    pipe.send((0, Outcome((engine.model, engine.device))))
    threading.Thread(target=_receive, args=(pipe, engine, loops), name="careca-commands", daemon=True).start()
    loops.run()


def _receive(pipe: Connection, engine: Engine[Any, Any], loops: EngineLoops) -> None:
    """Passes the parent's commands to the loops."""

    def load() -> None:
        engine.load()
        freeze_objects()

    try:
        with suppress(EOFError, ConnectionError):  # the parent has ended
            while True:
                match pipe.recv():
                    case _Infer(number, options, scheduling, log_context):
                        context = contextvars.Context()
                        context.run(bind_contextvars, **log_context)
                        loops.put(Infer(number, _receive_audio(pipe), options, scheduling, context))
                    case _Load(number):
                        loops.put(Run(number, load))
                    case command:
                        loops.put(command)
    finally:
        loops.put(Stop())


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
