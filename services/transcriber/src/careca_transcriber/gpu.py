"""GPU memory of this process, from the driver, because CTranslate2 does not report it."""

from __future__ import annotations

import os

import pynvml

from careca.types import GpuMemory


class GpuMemoryMeter:
    """Reads the GPU memory of this process from NVIDIA's management library (NVML).

    It checks all GPUs, because CUDA may number them in another order. The process uses only one.
    """

    def __init__(self) -> None:
        """Create it before the process uses a GPU. Raises ``pynvml.NVMLError`` if there is no driver."""
        pynvml.nvmlInit()
        self._gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        self._used_before = _size(self._gpus).used_bytes

    def measure(self) -> GpuMemory:
        """Returns the memory that this process holds, and the memory of its GPU. NVML does not know the allocated part.

        In a container the driver may use another process id. Then the result is the increase on all visible GPUs
        together since the meter was created.
        """
        own = {index: held for index, gpu in enumerate(self._gpus) if (held := _own_bytes(gpu)) is not None}
        size = _size([self._gpus[index] for index in own] or self._gpus)
        held = sum(own.values()) if own else max(0, size.used_bytes - self._used_before)
        return GpuMemory(reserved_bytes=held, used_bytes=size.used_bytes, total_bytes=size.total_bytes)


def _own_bytes(gpu: object) -> int | None:
    """Returns what this process holds on a GPU; ``None`` if it does not use the GPU or the driver does not know it."""
    running = pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)
    own = [process.usedGpuMemory or 0 for process in running if process.pid == os.getpid()]
    return sum(own) if own else None


def _size(gpus: list[object]) -> GpuMemory:
    """Returns the used and total memory of GPUs together."""
    infos = [pynvml.nvmlDeviceGetMemoryInfo(gpu) for gpu in gpus]
    return GpuMemory(used_bytes=sum(info.used for info in infos), total_bytes=sum(info.total for info in infos))
