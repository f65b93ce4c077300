"""What the services hold: at start, at most, after each cleanup, after a release, and while a large file comes in."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType

import psutil

from bench.common.asking import ask
from bench.system.results import Memory, ServiceMemory, Upload
from careca.errors import CarecaError
from careca.types import MemoryUsage, Stage
from careca_client import Client

Announce = Callable[[str], None]
GpuUsage = Callable[[], Mapping[str, MemoryUsage]]


class IncompleteUploadError(Exception):
    """The gateway did not take a whole file."""


SAMPLES_PER_SECOND = 10
SETTLE_SECONDS = 1.0
"""Pause before memory is read: the answer may arrive a moment before the process is at rest."""

_THOROUGH_EVERY = 10
"""Samples of RSS to one of USS and GPU: the kernel walks all pages for USS, which would slow down what is measured."""

_SERVICES = {Stage.TRANSCRIBE: "transcriber", Stage.DIARIZE: "diarizer"}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure. At ``upload_rate`` samples per second the upload is longer than the gateway accepts."""

    tasks: int = 20
    upload_bytes: int = 2 * 2**30
    upload_rate: int = 16_000


QUICK = Plan(tasks=3, upload_bytes=256 * 2**20, upload_rate=2_000)


class Sampler:
    """Watches processes from a thread, ten times a second, while in its context; holds the highest of each number.

    ``gpu_usage`` tells what each process holds of a GPU; ``None`` where there is none. Leaving the context raises what
    went wrong in the thread, such as a process that ended.
    """

    def __init__(self, pids: Mapping[str, int], gpu_usage: GpuUsage | None = None) -> None:
        self.peaks = dict.fromkeys(pids, Memory(rss=0, uss=0))
        self.children_rss = dict.fromkeys(pids, 0)
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._gpu_usage = gpu_usage
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-sampler", daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _watch(self) -> None:
        count = 0
        try:
            while not self._stop.wait(1 / SAMPLES_PER_SECOND):
                self._sample(thorough=count % _THOROUGH_EVERY == 0)
                count += 1
        except Exception as error:  # noqa: BLE001 -- a thread's failure is the context's, which raises it
            self._error = error

    def _sample(self, *, thorough: bool) -> None:
        gpu = self._gpu_usage() if thorough and self._gpu_usage else {}
        for name, process in self._processes.items():
            children = _children_rss(process)
            now = _read(process, gpu.get(name)) if thorough else Memory(process.memory_info().rss + children, uss=0)
            self.peaks[name] = _highest(self.peaks[name], now)
            self.children_rss[name] = max(self.children_rss[name], children)


def run_tasks(
    client: Client, pids: Mapping[str, int], same: Path, different: Sequence[Path], count: int, announce: Announce
) -> tuple[ServiceMemory, ...]:
    """Runs ``count`` tasks on ``same``, then one on each of ``different``, all past the caches, and releases memory."""
    at_start = snapshot(client, pids)
    with Sampler(pids, _gpu_reader(client)) as sampler:
        _run(client, [same], announce)
        after_first = snapshot(client, pids)
        _run(client, [same] * (count - 1), announce)
        after_same = snapshot(client, pids)
        _run(client, different, announce)
        after_different = snapshot(client, pids)
    client.release_memory()
    after_release = snapshot(client, pids)
    _run(client, [same], announce)
    after_reload = snapshot(client, pids)
    return tuple(
        ServiceMemory(
            service=name,
            at_start=at_start[name],
            after_first=after_first[name],
            after_same=after_same[name],
            after_different=after_different[name],
            peak=sampler.peaks[name],
            after_release=after_release[name],
            after_reload=after_reload[name],
            children_peak_rss=sampler.children_rss[name],
        )
        for name in pids
    )


def upload(client: Client, gateway_pid: int, recording: Path, announce: Announce) -> Upload:
    """Uploads ``recording`` and watches the gateway. What becomes of it is told by ``outcome``, and no failure here.

    Raises ``IncompleteUploadError`` where the gateway did not take all bytes: its RSS would then prove nothing.
    """
    gateway = psutil.Process(gateway_pid)
    size = recording.stat().st_size
    before, written, started = gateway.memory_info().rss, gateway.io_counters().write_chars, time.perf_counter()
    with Sampler({"gateway": gateway_pid}) as sampler:
        outcome = _outcome(client, recording)
        seconds = time.perf_counter() - started
        written = gateway.io_counters().write_chars - written
    if written < size:
        raise IncompleteUploadError(f"the gateway stored {written:,} of {size:,} bytes: {outcome}")
    done = Upload(
        file_bytes=size,
        written_bytes=written,
        seconds=seconds,
        before_rss=before,
        peak_rss=max(before, sampler.peaks["gateway"].rss),
        outcome=outcome,
    )
    announce(f"{size:,} bytes uploaded ({outcome}); the gateway grew by {done.growth:,} bytes")
    return done


def snapshot(client: Client, pids: Mapping[str, int]) -> dict[str, Memory]:
    """What each process holds once it has come to rest."""
    time.sleep(SETTLE_SECONDS)
    read_gpu = _gpu_reader(client)
    gpu = read_gpu() if read_gpu else {}
    return {name: _read(psutil.Process(pid), gpu.get(name)) for name, pid in pids.items()}


def _run(client: Client, recordings: Sequence[Path], announce: Announce) -> None:
    for number, recording in enumerate(recordings, 1):
        request, result = ask(client, recording, skip_cache=True)
        announce(f"[{number}/{len(recordings)}] {recording.stem}: {result.duration:.0f} s in {request.seconds:.1f} s")


def _outcome(client: Client, recording: Path) -> str:
    try:
        client.transcribe(recording)
    except CarecaError as error:
        return error.reason
    return "transcribed"


def _gpu_reader(client: Client) -> GpuUsage | None:
    """What asks the model services for their GPU memory; ``None`` where they compute on the CPU."""

    def usage() -> dict[str, MemoryUsage]:
        return {_SERVICES[each.stage]: each.stats.memory for each in client.stats().stages if each.stats}

    devices = [each.stats.device for each in client.stats().stages if each.stats]
    return usage if any(device != "cpu" for device in devices) else None


def _read(process: psutil.Process, gpu: MemoryUsage | None) -> Memory:
    """What the process and its children hold: a model service has its engine in a process of its own."""
    rss = uss = 0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # a child that ended since it was listed
            held = each.memory_full_info()
            rss, uss = rss + held.rss, uss + held.uss
    if gpu is None:
        return Memory(rss=rss, uss=uss)
    return Memory(rss=rss, uss=uss, gpu_allocated=gpu.gpu_allocated_bytes, gpu_reserved=gpu.gpu_reserved_bytes)


def _highest(one: Memory, other: Memory) -> Memory:
    return Memory(*(max(getattr(one, each.name), getattr(other, each.name)) for each in fields(Memory)))


def _children_rss(process: psutil.Process) -> int:
    total = 0
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended since it was listed
            total += child.memory_info().rss
    return total
