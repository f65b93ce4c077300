"""GPU memory of this process, as the driver counts it: CTranslate2 does not tell what it holds."""

from __future__ import annotations

import os

import pynvml

from careca.types import GpuMemory


class GpuMemoryMeter:
    """Asks NVIDIA's management library (NVML) what this process holds, and how full its GPU is.

    It looks at all GPUs, since CUDA may number them in another order, and the process uses only one.
    """

    def __init__(self) -> None:
        """To be made before the process uses a GPU. Raises ``pynvml.NVMLError`` where there is no driver."""
        pynvml.nvmlInit()
        self._gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        self._used_before = _size(self._gpus).used_bytes

    def measure(self) -> GpuMemory:
        """What this process holds, and the GPU that it holds it on; what is in use of it NVML does not know.

        In a container the driver may know the process by another number. Then it holds what the GPUs in sight have
        filled up by since the meter was made, and they count as one.
        """
        own = {index: held for index, gpu in enumerate(self._gpus) if (held := _own_bytes(gpu)) is not None}
        size = _size([self._gpus[index] for index in own] or self._gpus)
        held = sum(own.values()) if own else max(0, size.used_bytes - self._used_before)
        return GpuMemory(reserved_bytes=held, used_bytes=size.used_bytes, total_bytes=size.total_bytes)


def _own_bytes(gpu: object) -> int | None:
    """What this process holds of a GPU; ``None`` where it does not work on it, or the driver does not know it."""
    running = pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)
    own = [process.usedGpuMemory or 0 for process in running if process.pid == os.getpid()]
    return sum(own) if own else None


def _size(gpus: list[object]) -> GpuMemory:
    """How full GPUs are together."""
    infos = [pynvml.nvmlDeviceGetMemoryInfo(gpu) for gpu in gpus]
    return GpuMemory(used_bytes=sum(info.used for info in infos), total_bytes=sum(info.total for info in infos))
