"""GPU memory as the driver counts it, of all processes together, on the first GPU. Bytes."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

_INTERVAL_SECONDS = 0.05

ReadMemory = Callable[[], int | None]
"""Returns the memory in use; ``None`` without a GPU."""


def no_memory() -> None:
    """Returns ``None``: for a measurement without a GPU."""


class DriverError(Exception):
    """The driver does not answer; the message says why."""


def driver() -> tuple[str, ReadMemory]:
    """Returns the name of the GPU and what reads its memory: NVML, or nvidia-smi where pynvml is not installed.

    Raises ``DriverError`` if the driver does not answer.
    """
    try:
        import pynvml
    except ModuleNotFoundError:
        return _ask_smi("name"), lambda: int(_ask_smi("memory.used")) * 2**20
    try:
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        return str(pynvml.nvmlDeviceGetName(gpu)), lambda: int(pynvml.nvmlDeviceGetMemoryInfo(gpu).used)
    except pynvml.NVMLError as error:
        raise DriverError(str(error)) from error


class Peak:
    """The largest memory so far; ``None`` without a GPU."""

    def __init__(self) -> None:
        self.bytes: int | None = None

    def note(self, used: int | None) -> None:
        """Takes a sample."""
        if used is not None:
            self.bytes = max(used, self.bytes or 0)


@contextmanager
def watched(read: ReadMemory) -> Iterator[Peak]:
    """Samples the memory in a thread until it is left. Raises there what ``read`` raised."""
    peak, left = Peak(), threading.Event()

    def watch() -> None:
        peak.note(read())
        while not left.wait(_INTERVAL_SECONDS):
            peak.note(read())

    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(watch)
        try:
            yield peak
        finally:
            left.set()
        watching.result()


def _ask_smi(what: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits", "--id=0"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise DriverError(str(error)) from error
