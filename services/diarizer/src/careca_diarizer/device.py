"""Selects the device. Without a GPU, it does so without torch, whose import takes seconds."""

from __future__ import annotations

import ctypes
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Protocol

from careca.errors import PreconditionFailed
from careca.resources.processors import usable_processors
from careca.settings import ModelServiceSettings
from careca.types import GpuMemory

_DRIVER = "libcuda.so.1"
"""The library of NVIDIA's driver, through which torch uses a GPU."""


class Device(Protocol):
    """The device that computes, and its memory."""

    threads: int
    """Number of CPU threads."""

    @property
    def name(self) -> str:
        """Its name in torch, such as ``cpu`` or ``cuda:0``."""

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""

    def prepare(self) -> None:
        """Configures libraries for the device. Raises ``PreconditionFailed`` if the device is missing."""

    def memory(self) -> GpuMemory:
        """Returns the memory in use; zero unless the device is a GPU in use."""

    def release_cache(self) -> None:
        """Releases GPU memory that is not in use."""

    def translated_errors(self) -> AbstractContextManager[None]:
        """Raises ``OutOfMemory`` in place of the out-of-memory error of a GPU."""


class CPU:
    """The processors, without torch."""

    name = "cpu"
    is_gpu = False

    def __init__(self, settings: ModelServiceSettings) -> None:
        self.threads = settings.threads or usable_processors()

    def prepare(self) -> None:
        """Does nothing: networks get the number of threads when they are loaded."""

    def memory(self) -> GpuMemory:
        """Returns zero."""
        return GpuMemory()

    def release_cache(self) -> None:
        """Does nothing."""

    def translated_errors(self) -> AbstractContextManager[None]:
        """Translates nothing."""
        return nullcontext()


def select_device(settings: ModelServiceSettings) -> Device:
    """Returns the device of the settings. With ``auto`` it is a GPU if torch is installed and finds one.

    Raises ``PreconditionFailed`` for ``cuda`` without torch.
    """
    if settings.device == "cuda" and not torch_installed():
        raise PreconditionFailed(
            "CARECA_DEVICE is cuda, which needs torch: install careca-diarizer[cuda], or set CARECA_DEVICE=cpu",
            reason="GPU_SUPPORT_NOT_INSTALLED",
        )
    if settings.device == "cuda" or (settings.device == "auto" and torch_installed() and _has_driver()):
        from careca_diarizer.torch_device import TorchDevice

        device = TorchDevice(settings)
        if device.is_gpu:
            return device
    return CPU(settings)


def torch_installed() -> bool:
    """Whether torch is installed, without its import. pyannote.audio is then installed too."""
    return find_spec("torch") is not None


def _has_driver() -> bool:
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    return True
