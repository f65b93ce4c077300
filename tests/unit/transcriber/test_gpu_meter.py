"""The GPU memory from NVIDIA's library, which is replaced by a fake."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from types import SimpleNamespace

import pynvml
import pytest

from careca.types import GpuMemory
from careca_transcriber.gpu import GpuMemoryMeter

GIB = 2**30


@dataclass
class Gpu:
    """One GPU in the fake driver."""

    used: int
    total: int = 16 * GIB
    processes: dict[int, int | None] = field(default_factory=dict)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[Gpu]:
    """The GPUs of the machine; a test may add more before it creates a meter."""
    found = [Gpu(used=1 * GIB), Gpu(used=2 * GIB, total=80 * GIB)]
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(found))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", found.__getitem__)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda gpu: gpu)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", _running)
    return found


def _running(gpu: Gpu) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in gpu.processes.items()]


def test_only_the_gpu_of_the_process_counts(gpus: list[Gpu]) -> None:
    meter = GpuMemoryMeter()
    gpus[1].used, gpus[1].processes = 6 * GIB, {os.getpid(): 3 * GIB, os.getpid() + 1: 1 * GIB}
    gpus[0].used = 15 * GIB

    assert meter.measure() == GpuMemory(reserved_bytes=3 * GIB, used_bytes=6 * GIB, total_bytes=80 * GIB)


def test_for_a_process_that_the_driver_does_not_know_the_increase_counts(gpus: list[Gpu]) -> None:
    meter = GpuMemoryMeter()
    gpus[1].used, gpus[1].processes = 5 * GIB, {1: 3 * GIB}

    assert meter.measure() == GpuMemory(reserved_bytes=3 * GIB, used_bytes=6 * GIB, total_bytes=96 * GIB)


def test_memory_that_others_release_does_not_make_the_result_negative(gpus: list[Gpu]) -> None:
    meter = GpuMemoryMeter()
    gpus[0].used = 0

    assert meter.measure().reserved_bytes == 0


def test_a_driver_without_an_amount_counts_as_zero(gpus: list[Gpu]) -> None:
    gpus[0].processes = {os.getpid(): None}

    assert GpuMemoryMeter().measure() == GpuMemory(used_bytes=1 * GIB, total_bytes=16 * GIB)
