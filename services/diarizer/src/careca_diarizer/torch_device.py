"""A ``Device`` for torch: selection, preparation and memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from careca.errors import OutOfMemory, PreconditionFailed
from careca.resources.processors import usable_processors
from careca.settings import ModelServiceSettings
from careca.types import GpuMemory


class TorchDevice:
    """The device of the settings. With ``auto`` it is a GPU if torch finds one."""

    def __init__(self, settings: ModelServiceSettings) -> None:
        on_gpu = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
        self.threads = settings.threads or usable_processors()
        """Number of CPU threads."""
        self.torch = torch.device("cuda", settings.device_index) if on_gpu else torch.device("cpu")
        """The device in torch."""

    @property
    def name(self) -> str:
        """Its name in torch, such as ``cpu`` or ``cuda:0``."""
        return str(self.torch)

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.torch.type == "cuda"

    @property
    def _in_use(self) -> bool:
        return self.is_gpu and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]

    def prepare(self) -> None:
        """Configures torch for the device. Raises ``PreconditionFailed`` if the device is missing."""
        torch.set_num_threads(self.threads)
        if not self.is_gpu:
            return
        if self.torch.index >= torch.cuda.device_count():
            raise PreconditionFailed(
                f"the device is {self.torch}, but torch finds {torch.cuda.device_count()} GPUs: choose another with "
                "CARECA_DEVICE_INDEX, or the CPU with CARECA_DEVICE=cpu",
                reason="DEVICE_NOT_AVAILABLE",
                metadata={"device": str(self.torch)},
            )
        # Full float32, because TF32 would give other results on other GPUs.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False

    def memory(self) -> GpuMemory:
        """Returns the memory in use; zero unless the device is a GPU in use."""
        if not self._in_use:
            return GpuMemory()
        free, total = torch.cuda.mem_get_info(self.torch)
        return GpuMemory(
            allocated_bytes=torch.cuda.memory_allocated(self.torch),
            reserved_bytes=torch.cuda.memory_reserved(self.torch),
            used_bytes=total - free,
            total_bytes=total,
        )

    def release_cache(self) -> None:
        """Releases GPU memory that no tensor uses."""
        if self._in_use:
            with torch.cuda.device(self.torch):
                torch.cuda.empty_cache()

    @contextmanager
    def translated_errors(self) -> Iterator[None]:
        """Raises ``OutOfMemory`` in place of torch's out-of-memory error."""
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            raise OutOfMemory(
                f"{self.torch} has too little memory for this audio: use a smaller CARECA_SEGMENTATION_BATCH_SIZE and "
                "CARECA_EMBEDDING_BATCH_SIZE",
                metadata={"device": str(self.torch)},
            ) from error
