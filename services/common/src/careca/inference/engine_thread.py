"""A shared engine in threads of this process, for engines without a model library."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from careca.inference.audio import Audio
from careca.inference.engine import Engine
from careca.inference.engine_loop import Cancel, EngineLoops, Infer, Run
from careca.inference.shared_engine import Calls, CancelToken, Computed, Emit
from careca.types import GpuMemory, Scheduling

O = TypeVar("O")  # noqa: E741 - options
R = TypeVar("R")


class EngineThread(Generic[O, R]):
    """A ``SharedEngine`` in this process. Its threads end with the process."""

    def __init__(self, engine: Engine[O, R], *, share: bool = False) -> None:
        self._engine = engine
        self._calls = Calls()
        self._loops = EngineLoops(engine, share=share, tell=self._calls.deliver)
        threading.Thread(target=self._loops.run, name="careca-engine", daemon=True).start()

    @property
    def model(self) -> str:
        """Ids of the models and short digests of their weights."""
        return self._engine.model

    @property
    def device(self) -> str:
        """The device that computes."""
        return self._engine.device

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._engine.loaded

    def load(self) -> None:
        """See ``SharedEngine.load``."""
        self._run(self._engine.load)

    def unload(self) -> None:
        """Drops the weights, and the memory that no live data uses."""
        self._run(self._engine.unload)
        self._run(self._engine.release_gpu_cache)

    def gpu_memory(self) -> GpuMemory:
        """The GPU memory in use now."""
        return self._engine.gpu_memory()

    def release_gpu_cache(self) -> None:
        """Does nothing: the loops do it after each request."""

    def infer(self, audio: Audio, options: O, scheduling: Scheduling, cancel: CancelToken, emit: Emit) -> Computed[R]:
        """See ``SharedEngine.infer``."""
        context = contextvars.copy_context()
        outcome = self._calls.run(
            lambda number: self._loops.put(Infer(number, audio, options, scheduling, context)),
            cancel,
            lambda number: self._loops.put(Cancel(number)),
            emit,
        )
        computed: Computed[R] = outcome.value_or_error()
        return computed

    def _run(self, function: Callable[[], None]) -> None:
        self._calls.run(lambda number: self._loops.put(Run(number, function))).value_or_error()
