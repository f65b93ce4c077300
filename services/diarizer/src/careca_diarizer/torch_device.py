"""The device that torch computes on: chosen, prepared, and its memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from careca.errors import OutOfMemory, PreconditionFailed


def prepare_device(kind: str, index: int, threads: int) -> torch.device:
    """The device to compute on, with torch set up for it.

    ``kind`` is ``cpu``, ``cuda`` or ``auto``, which takes GPU ``index`` where there is one. ``threads`` is the number of
    CPU threads, 0 for one per processor of this process. Raises ``PreconditionFailed`` where the GPU is not there.
    """
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    if kind == "cpu" or (kind == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if index >= torch.cuda.device_count():
        raise PreconditionFailed(
            f"GPU {index} was chosen, and torch sees {torch.cuda.device_count()}: choose another with "
            "CARECA_DEVICE_INDEX, or the CPU with CARECA_DEVICE=cpu",
            reason="DEVICE_NOT_AVAILABLE",
            metadata={"device_index": str(index)},
        )
    # Full float32: with TF32 the same audio would be diarized differently on different GPUs.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", index)


def gpu_memory(device: torch.device | None) -> tuple[int, int]:
    """Bytes that live tensors use and that torch holds on ``device``; (0, 0) unless it is a GPU that is in use."""
    if device is None or device.type != "cuda" or not torch.cuda.is_initialized():
        return (0, 0)
    return torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)


def release_gpu_cache(device: torch.device | None) -> None:
    """Gives memory that no tensor uses back to the GPU."""
    if device is not None and device.type == "cuda" and torch.cuda.is_initialized():
        with torch.cuda.device(device):
            torch.cuda.empty_cache()


@contextmanager
def gpu_memory_errors() -> Iterator[None]:
    """Turns torch's error for a full GPU into ``OutOfMemory``."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfMemory(
            "the GPU has too little memory for this audio: use smaller batches or a GPU with more memory"
        ) from error
