"""What a device's failures mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from careca.errors import OutOfMemory

_SIGNS_OF_OUT_OF_MEMORY = ("out of memory", "alloc_failed", "bad_alloc")


@contextmanager
def translated_device_errors(device: str) -> Iterator[None]:
    """Raises ``OutOfMemory`` in place of what CTranslate2 raises where ``device`` has too little memory.

    CTranslate2 has no class for it, only texts such as "CUDA failed with error out of memory".
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _SIGNS_OF_OUT_OF_MEMORY):
            raise OutOfMemory(
                f"{device} has too little memory for this recording; a smaller CARECA_WHISPER_BATCH_SIZE, a smaller "
                "model or a smaller CARECA_WHISPER_COMPUTE_TYPE needs less",
                metadata={"device": device},
            ) from error
        raise
