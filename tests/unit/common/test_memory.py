"""Memory is measured correctly and really released."""

import ctypes
import gc
import random
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from careca.resources.memory import CleanupLevel, MemoryCleaner, freeze_objects, measure_memory
from careca.resources.memory_limit import memory_limit
from careca.telemetry.metrics import Metrics
from careca.types import GpuMemory, MemoryRelease
from support.samples import sample_value

MEGABYTE = 1_000_000

needs_malloc_trim = pytest.mark.skipif(
    not (sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim")), reason="this C library cannot trim"
)


class Witness:
    """Records cleanups in the metrics of a service."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.cleaned: tuple[CleanupLevel, MemoryRelease] | None = None

    def __call__(self, level: CleanupLevel, release: MemoryRelease) -> None:
        self.cleaned = level, release
        self.metrics.memory_cleaned(level, release)

    def released(self, kind: str, level: CleanupLevel) -> float | None:
        """The released bytes in the metrics."""
        labels = {"kind": kind, "level": level}
        return sample_value(self.metrics.registry, "careca_memory_released_bytes_total", **labels)


class GpuEngine:
    """An engine with 300 MB on its device, 100 MB of them in a cache."""

    model = "fake@0"
    device = "cuda:0"

    def __init__(self) -> None:
        self.loaded = True
        self.cached = 100 * MEGABYTE
        self.calls: list[str] = []

    def load(self) -> None:
        self.calls.append("load")
        self.loaded = True

    def unload(self) -> None:
        self.calls.append("unload")
        self.loaded = False
        self.cached += 200 * MEGABYTE

    def gpu_memory(self) -> GpuMemory:
        live = 200 * MEGABYTE if self.loaded else 0
        return GpuMemory(allocated_bytes=live, reserved_bytes=live + self.cached)

    def release_gpu_cache(self) -> None:
        self.calls.append("release_gpu_cache")
        self.cached = 0


class Cycle:
    """A reference cycle, which only the garbage collector can free."""

    def __init__(self) -> None:
        self.itself = self


def churn() -> list[bytes]:
    """Allocates and frees some hundred MB of small buffers in threads; the survivors fragment the heaps."""

    all_hold = threading.Barrier(4)  # or one would use what another has freed already

    def work(seed: int) -> list[bytes]:
        pick = random.Random(seed)
        buffers = [bytes(pick.randrange(600, 6000)) for _ in range(20_000)]
        all_hold.wait()
        return buffers[::500]

    with ThreadPoolExecutor(4) as threads:
        return [survivor for survivors in threads.map(work, range(4)) for survivor in survivors]


def test_a_process_holds_memory_and_without_an_engine_none_on_a_gpu() -> None:
    usage = measure_memory()

    assert usage.rss_bytes >= usage.uss_bytes > MEGABYTE
    assert (usage.gpu_allocated_bytes, usage.gpu_reserved_bytes) == (0, 0)


@pytest.mark.parametrize("text", ["536870912\n", "max\n", "9223372036854771712\n"])
def test_the_limit_is_the_containers_or_the_machines_where_that_is_less(tmp_path: Path, text: str) -> None:
    (tmp_path / "memory.max").write_text(text)
    machine = psutil.virtual_memory().total

    limit = memory_limit([tmp_path / "memory.max", tmp_path / "no such file"])

    assert limit == (512 * 2**20 if text.startswith("5") else machine)
    assert memory_limit([]) == machine


def test_allocated_memory_is_measured() -> None:
    before = measure_memory()

    block = bytearray(b"x" * 50 * MEGABYTE)

    assert measure_memory().uss_bytes - before.uss_bytes > 40 * MEGABYTE
    assert block


@needs_malloc_trim
def test_after_a_task_memory_that_threads_freed_returns_to_the_system() -> None:
    witness = Witness()
    MemoryCleaner().clean_up()  # or the threads would use what earlier tests have freed
    at_start = measure_memory()
    survivors = churn()

    release = MemoryCleaner(on_cleanup=witness).clean_up()

    released_bytes = release.before.rss_bytes - release.after.rss_bytes
    assert release.before.rss_bytes - at_start.rss_bytes > 150 * MEGABYTE, "freed, and yet held by the process"
    assert released_bytes > 150 * MEGABYTE
    assert witness.released("ram", "task") == released_bytes
    assert survivors


@needs_malloc_trim
def test_one_heap_keeps_what_is_freed_until_it_is_trimmed() -> None:
    # In a process of its own, because it changes the whole process.
    code = """if True:
        import ctypes, threading
        from careca.resources.memory import measure_memory, trim_heap, use_one_heap

        def allocate():
            c = ctypes.CDLL(None)
            c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
            block = c.malloc(200_000_000)
            ctypes.memset(block, 1, 200_000_000)
            c.free(block)

        def megabytes():
            return measure_memory(thorough=False).rss_bytes // 1_000_000

        use_one_heap()
        allocate()
        before = megabytes()
        thread = threading.Thread(target=allocate)
        thread.start(); thread.join()
        held = megabytes()
        trim_heap()
        print(before, held, megabytes())
    """
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    first, second, trimmed = map(int, shown.stdout.split())

    assert first > 200, "freed, and yet held by the process"
    assert second < first + 50, "the thread used the same memory"
    assert trimmed < first - 150


def test_after_a_task_cyclic_garbage_is_collected() -> None:
    class Node:
        def __init__(self) -> None:
            self.itself = self
            self.block = bytearray(b"x" * 50 * MEGABYTE)

    Node()

    release = MemoryCleaner().clean_up()

    assert release.before.rss_bytes - release.after.rss_bytes > 40 * MEGABYTE


@pytest.fixture
def settled() -> Iterator[None]:
    freeze_objects()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("settled")
def test_garbage_created_after_the_freeze_is_collected_after_a_task() -> None:
    garbage = Cycle()
    gone = weakref.ref(garbage)
    del garbage

    MemoryCleaner().clean_up()

    assert gone() is None


def test_frozen_garbage_is_collected_when_memory_is_released() -> None:
    model = Cycle()
    gone = weakref.ref(model)
    freeze_objects()
    del model

    MemoryCleaner().clean_up()
    assert gone() is not None, "set aside: looking for it would take long"
    MemoryCleaner().release()

    assert gone() is None
    assert gc.get_freeze_count() > 0, "the rest stays set aside"
    gc.unfreeze()


def test_a_quick_measurement_contains_resident_memory() -> None:
    quick = measure_memory(thorough=False)

    assert quick.rss_bytes > MEGABYTE
    assert quick.uss_bytes == 0


def test_after_a_task_cached_gpu_memory_is_released_and_the_models_stay() -> None:
    engine, witness = GpuEngine(), Witness()

    release = MemoryCleaner(engine, witness).clean_up()

    assert engine.calls == ["release_gpu_cache"]
    assert not release.models_unloaded
    assert release.before.gpu_reserved_bytes == 300 * MEGABYTE
    assert release.after.gpu_reserved_bytes == release.after.gpu_allocated_bytes == 200 * MEGABYTE
    assert witness.released("gpu", "task") == 100 * MEGABYTE


def test_releasing_unloads_the_models_and_releases_all_gpu_memory() -> None:
    engine, witness = GpuEngine(), Witness()

    release = MemoryCleaner(engine, witness).release()

    assert engine.calls == ["unload", "release_gpu_cache"]
    assert release.models_unloaded
    assert release.after.gpu_reserved_bytes == 0
    assert witness.released("gpu", "release") == 300 * MEGABYTE
    assert witness.cleaned == ("release", release)
    assert witness.released("gpu", "task") == 0


def test_releasing_twice_unloads_once() -> None:
    engine = GpuEngine()
    cleaner = MemoryCleaner(engine)

    first, second = cleaner.release(), cleaner.release()

    assert (first.models_unloaded, second.models_unloaded) == (True, False)
    assert engine.calls.count("unload") == 1


def test_a_process_without_an_engine_can_release_too() -> None:
    assert not MemoryCleaner().release().models_unloaded


def test_growth_during_a_cleanup_is_never_counted_as_released() -> None:
    class Growing(GpuEngine):
        def release_gpu_cache(self) -> None:
            self.cached += MEGABYTE

    witness = Witness()

    MemoryCleaner(Growing(), witness).clean_up()

    assert witness.released("gpu", "task") == 0


def test_each_cleanup_logs_the_memory_before_and_after() -> None:
    with capture_logs() as logs:
        MemoryCleaner(GpuEngine()).clean_up()

    (line,) = (line for line in logs if line["event"] == "memory given back")
    assert line["cleanup"] == "task"
    assert (line["gpu_before_mb"], line["gpu_after_mb"]) == (300, 200)
    assert line["ram_before_mb"] > 1
    assert line["ram_after_mb"] > 1


def test_cleanups_from_many_threads_do_not_count_the_same_memory_twice() -> None:
    engine, witness = GpuEngine(), Witness()
    cleaner = MemoryCleaner(engine, witness)
    together = threading.Barrier(8)

    def clean_up() -> None:
        together.wait()
        cleaner.clean_up()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: clean_up(), range(8)))

    assert witness.released("gpu", "task") == 100 * MEGABYTE
