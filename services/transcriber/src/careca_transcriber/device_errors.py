"""Translation of CTranslate2's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from careca.errors import OutOfMemory

_SIGNS_OF_OUT_OF_MEMORY = ("out of memory", "alloc_failed", "bad_alloc")


@contextmanager
def translated_device_errors(device: str) -> Iterator[None]:
    """Raises ``OutOfMemory`` in place of CTranslate2's error if ``device`` has too little memory.

    CTranslate2 has no error class for it, only messages such as "CUDA failed with error out of memory".
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _SIGNS_OF_OUT_OF_MEMORY):
            raise OutOfMemory(
                f"{device} has too little memory for this recording: use a smaller CARECA_WHISPER_BATCH_SIZE, "
                "CARECA_WHISPER_COMPUTE_TYPE or model",
                metadata={"device": device},
            ) from error
        raise
