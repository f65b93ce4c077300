"""GPU memory of this process, as the driver counts it: CTranslate2 does not tell what it holds."""

from __future__ import annotations

import os

import pynvml


class GpuMemoryMeter:
    """Asks NVIDIA's management library (NVML) what this process holds.

    It looks at all GPUs, since CUDA may number them in another order, and the process uses only one.
    """

    def __init__(self) -> None:
        """To be made before the process uses a GPU. Raises ``pynvml.NVMLError`` where there is no driver."""
        pynvml.nvmlInit()
        self._gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        self._used_before = self._used_bytes()

    def process_bytes(self) -> int:
        """Bytes of GPU memory that this process holds.

        In a container the driver may know the process by another number. Then this is what the GPUs in sight have
        filled up by since the meter was made.
        """
        running = [process for gpu in self._gpus for process in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)]
        own = [process.usedGpuMemory or 0 for process in running if process.pid == os.getpid()]
        return sum(own) if own else max(0, self._used_bytes() - self._used_before)

    def _used_bytes(self) -> int:
        return sum(pynvml.nvmlDeviceGetMemoryInfo(gpu).used for gpu in self._gpus)
