"""Memory of this process and its children: measured, given back after each task, and thoroughly on demand."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import logging
import threading
from typing import Literal, Protocol

import psutil

from careca.inference.engine import Engine
from careca.telemetry.logs import get_logger
from careca.types import GpuMemory, MemoryRelease, MemoryUsage

MemoryKind = Literal["ram", "gpu"]
CleanupLevel = Literal["task", "release"]

_log = get_logger(__name__)


class MemoryObserver(Protocol):
    """Told what cleanups gave back, for metrics. Its method is quick, never raises, and is called from any thread."""

    def memory_released(self, kind: MemoryKind, level: CleanupLevel, size_bytes: int) -> None:
        """Counts bytes given back, never negative."""

    def memory_cleaned(self, level: CleanupLevel, release: MemoryRelease) -> None:
        """Takes what was held before and after a cleanup."""


def measure(engine: Engine | None = None, *, thorough: bool = True) -> MemoryUsage:
    """What this process and its children hold now, with the GPU memory of its engine.

    Blocks for some milliseconds, more the more memory there is: for USS the system looks at each page. Without
    ``thorough`` that is left out and the time does not depend on the memory.
    """
    own = psutil.Process()
    rss = uss = 0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended since it was listed
            held = process.memory_full_info() if thorough else process.memory_info()
            rss += held.rss
            uss += getattr(held, "uss", 0)
    gpu = engine.gpu_memory() if engine else GpuMemory()
    return MemoryUsage(rss, uss, gpu_allocated_bytes=gpu.allocated_bytes, gpu_reserved_bytes=gpu.reserved_bytes)


def settle() -> None:
    """Takes everything that is there now for what stays, so that collecting garbage after each task passes it over.

    To be called once a process is ready to work: by then it has some hundred thousand objects of modules and models,
    and looking through them takes longer than all the rest of a cleanup. Releasing memory looks through them again.
    """
    gc.collect()
    gc.freeze()


class MemoryKeeper:
    """Gives memory back to the system and to the GPU. Its methods block and may be called from any thread."""

    def __init__(self, engine: Engine | None = None, observer: MemoryObserver | None = None) -> None:
        self._engine = engine
        self._observer = observer
        # Two cleanups at once would each count what the other gave back.
        self._turn = threading.Lock()

    def clean_up(self, **context: object) -> MemoryRelease:
        """Gives back what a finished task left behind; the models stay. ``context`` goes to the log line."""
        return self._give_back("task", context)

    def release(self, **context: object) -> MemoryRelease:
        """Gives back as much as possible: unloads the models too. Only while no inference runs."""
        return self._give_back("release", context)

    def _give_back(self, level: CleanupLevel, context: dict[str, object]) -> MemoryRelease:
        with self._turn:
            thorough = level == "release"  # after a task it has to be quick: the next one waits
            before = measure(self._engine, thorough=thorough)
            unloaded = self._empty(thorough=thorough)
            after = measure(self._engine, thorough=thorough)
            release = MemoryRelease(before=before, after=after, models_unloaded=unloaded)
        self._report(level, release, context)
        return release

    def _empty(self, *, thorough: bool) -> bool:
        """Drops, collects and trims, in the order in which each step frees something for the next.

        Says whether models were unloaded, as they are where it is ``thorough``.
        """
        unload = thorough and self._engine is not None and self._engine.loaded
        if unload and self._engine:
            self._engine.unload()
        if thorough:
            _collect_all()
        else:
            gc.collect()
        if self._engine:
            self._engine.release_gpu_cache()
        trim_heap()
        return unload

    def _report(self, level: CleanupLevel, release: MemoryRelease, context: dict[str, object]) -> None:
        before, after = release.before, release.after
        if self._observer:
            self._observer.memory_released("ram", level, max(0, before.rss_bytes - after.rss_bytes))
            self._observer.memory_released("gpu", level, max(0, before.gpu_reserved_bytes - after.gpu_reserved_bytes))
            self._observer.memory_cleaned(level, release)
        # A task's own log line carries these figures too.
        _log.log(
            logging.DEBUG if level == "task" else logging.INFO,
            "memory given back",
            cleanup=level,
            models_unloaded=release.models_unloaded,
            ram_before_mb=_megabytes(before.rss_bytes),
            ram_after_mb=_megabytes(after.rss_bytes),
            gpu_before_mb=_megabytes(before.gpu_reserved_bytes),
            gpu_after_mb=_megabytes(after.gpu_reserved_bytes),
            **context,
        )


def _collect_all() -> None:
    """Collects garbage among what ``settle`` set aside too, such as models that were unloaded since."""
    settled = gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.collect()
    if settled:
        gc.freeze()


def _megabytes(size_bytes: int) -> float:
    return round(size_bytes / 1e6, 1)


def trim_heap() -> None:
    """Gives the free pages of all of glibc's arenas back: collecting garbage alone leaves them with the process."""
    if trim := _malloc_trim():
        trim(0)


@functools.cache
def _malloc_trim() -> ctypes._NamedFuncPointer | None:
    """The ``malloc_trim`` of glibc, or ``None`` with one line in the log where the C library is another one."""
    try:
        trim: ctypes._NamedFuncPointer = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        _log.warning("this C library has no malloc_trim: freed memory may stay with the process")
        return None
    trim.argtypes = [ctypes.c_size_t]
    trim.restype = ctypes.c_int
    return trim
