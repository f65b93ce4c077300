"""The device that torch computes on: which one, made ready, and its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from careca.errors import OutOfMemory, PreconditionFailed
from careca.resources.processors import usable_processors
from careca.settings import ModelServiceSettings
from careca.types import GpuMemory


class TorchDevice:
    """The device that the settings choose. Where they leave it open, it is a GPU if torch sees one."""

    def __init__(self, settings: ModelServiceSettings) -> None:
        on_gpu = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
        self.threads = settings.threads or usable_processors()
        """Threads to compute with on the CPU."""
        self.torch = torch.device("cuda", settings.device_index) if on_gpu else torch.device("cpu")
        """The device, as torch names it."""

    @property
    def is_gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.torch.type == "cuda"

    @property
    def _in_use(self) -> bool:
        return self.is_gpu and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]

    def prepare(self) -> None:
        """Sets torch up for the device. Raises ``PreconditionFailed`` where it is not there."""
        torch.set_num_threads(self.threads)
        if not self.is_gpu:
            return
        if self.torch.index >= torch.cuda.device_count():
            raise PreconditionFailed(
                f"{self.torch} was chosen and torch sees {torch.cuda.device_count()} GPUs: choose another with "
                "CARECA_DEVICE_INDEX, or the CPU with CARECA_DEVICE=cpu",
                reason="DEVICE_NOT_AVAILABLE",
                metadata={"device": str(self.torch)},
            )
        # Full float32: TF32 would diarize the same audio differently on another GPU.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False

    def memory(self) -> GpuMemory:
        """What is held of its memory; nothing unless it is a GPU that is in use."""
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
        """Gives memory that no tensor uses back to the GPU."""
        if self._in_use:
            with torch.cuda.device(self.torch):
                torch.cuda.empty_cache()

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Raises ``OutOfMemory`` in place of torch's error for a GPU that is full."""
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            raise OutOfMemory(
                f"{self.torch} has too little memory for this audio; a smaller CARECA_SEGMENTATION_BATCH_SIZE and "
                "CARECA_EMBEDDING_BATCH_SIZE need less",
                metadata={"device": str(self.torch)},
            ) from error
