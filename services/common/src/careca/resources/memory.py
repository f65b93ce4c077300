"""Memory of this process and its children: measured, and released after each task or on demand."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import logging
import threading
from collections.abc import Callable
from typing import Literal, Protocol

import psutil
import structlog

from careca.types import GpuMemory, MemoryRelease, MemoryUsage

CleanupLevel = Literal["task", "release"]
OnCleanup = Callable[[CleanupLevel, MemoryRelease], None]

# The options of glibc's malloc that mallopt sets.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_M_ARENA_MAX = -8

_log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(__name__)


class ModelMemory(Protocol):
    """A model that can be unloaded. Its methods block."""

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""

    def unload(self) -> None:
        """Drops the weights; does nothing if there are none. Never called while an inference runs."""

    def gpu_memory(self) -> GpuMemory:
        """The GPU memory in use now."""

    def release_gpu_cache(self) -> None:
        """Releases memory that no live data uses: caches on a GPU, and buffers of a runtime on the CPU."""


def measure_memory(model: ModelMemory | None = None, *, thorough: bool = True) -> MemoryUsage:
    """Returns the memory of this process and its children, and the GPU memory of the model.

    Blocks for some milliseconds, and longer with more memory, because the system visits each page to compute the USS.
    Without ``thorough``, the USS is 0 and the time does not depend on the amount of memory.
    """
    own = psutil.Process()
    rss = uss = 0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended in the meantime
            held = process.memory_full_info() if thorough else process.memory_info()
            rss += held.rss
            uss += getattr(held, "uss", 0)
    gpu = model.gpu_memory() if model else GpuMemory()
    return MemoryUsage(rss, uss, gpu_allocated_bytes=gpu.allocated_bytes, gpu_reserved_bytes=gpu.reserved_bytes)


def freeze_objects() -> None:
    """Excludes all current objects from the garbage collections after each task.

    Call it when a process is ready to work. By then modules and models have created some hundred thousand objects that
    stay, and scanning them takes longer than the rest of a cleanup. A release of the memory scans them again.
    """
    gc.collect()
    gc.freeze()


class MemoryCleaner:
    """Returns memory to the system and to the GPU. Its methods block and may be called from any thread.

    Args:
        model: the model of the process, if it has one.
        on_cleanup: called after each cleanup, from any thread, for metrics.
    """

    def __init__(self, model: ModelMemory | None = None, on_cleanup: OnCleanup | None = None) -> None:
        self._model = model
        self._on_cleanup = on_cleanup
        # Two cleanups at the same time would each count what the other one released.
        self._lock = threading.Lock()

    def clean_up(self, model: MemoryRelease | None = None) -> MemoryRelease:
        """Releases what a finished task left behind; the model stays loaded.

        Adds what the process of the model has released for the task already, if it has one.
        """
        return self._clean("task", model)

    def release(self) -> MemoryRelease:
        """Releases as much as possible and unloads the model. Call it only while no inference runs."""
        return self._clean("release")

    def _clean(self, level: CleanupLevel, earlier: MemoryRelease | None = None) -> MemoryRelease:
        with self._lock:
            thorough = level == "release"  # after a task it must be quick, because the next task waits
            before = measure_memory(self._model, thorough=thorough)
            if earlier:
                before = _before(before, earlier)
            unloaded = self._free(thorough=thorough)
            after = measure_memory(self._model, thorough=thorough)
            release = MemoryRelease(before=before, after=after, models_unloaded=unloaded)
        self._report(level, release)
        return release

    def _free(self, *, thorough: bool) -> bool:
        """Drops, collects and trims, in the order in which each step frees something for the next one.

        With ``thorough`` it unloads the model. Returns whether it did.
        """
        unload = thorough and self._model is not None and self._model.loaded
        if unload and self._model:
            self._model.unload()
        if thorough:
            _collect_all()
        else:
            gc.collect()
        if self._model:
            self._model.release_gpu_cache()
        trim_heap()
        return unload

    def _report(self, level: CleanupLevel, release: MemoryRelease) -> None:
        before, after = release.before, release.after
        if self._on_cleanup:
            self._on_cleanup(level, release)
        # The log line of a task has these values too.
        _log.log(
            logging.DEBUG if level == "task" else logging.INFO,
            "memory given back",
            cleanup=level,
            models_unloaded=release.models_unloaded,
            ram_before_mb=_megabytes(before.rss_bytes),
            ram_after_mb=_megabytes(after.rss_bytes),
            gpu_before_mb=_megabytes(before.gpu_reserved_bytes),
            gpu_after_mb=_megabytes(after.gpu_reserved_bytes),
        )


def _before(usage: MemoryUsage, earlier: MemoryRelease) -> MemoryUsage:
    """Returns ``usage`` with what an earlier release gave back."""
    before, after = earlier.before, earlier.after
    return MemoryUsage(
        usage.rss_bytes + before.rss_bytes - after.rss_bytes,
        usage.uss_bytes,
        usage.gpu_allocated_bytes + before.gpu_allocated_bytes - after.gpu_allocated_bytes,
        usage.gpu_reserved_bytes + before.gpu_reserved_bytes - after.gpu_reserved_bytes,
    )


def _collect_all() -> None:
    """Collects garbage among frozen objects too, such as models that have been unloaded."""
    frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.collect()
    if frozen:
        gc.freeze()


def _megabytes(size_bytes: int) -> float:
    return round(size_bytes / 1e6, 1)


def trim_heap() -> None:
    """Returns the free pages of all of glibc's arenas to the system; garbage collection alone does not do that."""
    if trim := _malloc_trim():
        trim(0)


def use_one_heap() -> None:
    """Makes glibc serve all allocations of this process from one heap, and keep what is freed until ``trim_heap``.

    By default, large allocations are separate mappings, which the system creates, fills with zeros and removes again
    each time: a model's buffers are such allocations. So are those of the threads' own heaps, which are small. Call it
    at the start of a process. Does nothing if the C library is not glibc.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        set_option = ctypes.CDLL(None).mallopt
        set_option(_M_ARENA_MAX, 1)
        set_option(_M_MMAP_MAX, 0)
        set_option(_M_TRIM_THRESHOLD, -1)


@functools.cache
def _malloc_trim() -> ctypes._NamedFuncPointer | None:
    """Returns glibc's ``malloc_trim``, or ``None``, with a warning in the log, if the C library is not glibc."""
    try:
        trim: ctypes._NamedFuncPointer = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        _log.warning("this C library has no malloc_trim: freed memory may stay with the process")
        return None
    trim.argtypes = [ctypes.c_size_t]
    trim.restype = ctypes.c_int
    return trim
