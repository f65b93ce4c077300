"""Decoded audio: 16 kHz mono signed 16-bit PCM. It is spooled to disk as it arrives, to keep memory small."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from careca.errors import InvalidRequest, Overloaded
from careca.resources.disk import disk_full, disk_space, write_all
from careca.telemetry.logs import get_logger
from careca.types import SAMPLE_BYTES, SAMPLE_RATE, Digest

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Audio:
    """Samples of one recording: shape (samples,), int16. They may be backed by a file."""

    samples: npt.NDArray[np.int16]
    descriptor: int | None = None
    """Descriptor of an open file with exactly the samples, which another process can map; ``None`` if there is none."""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE

    def identity(self, start: int, stop: int) -> bytes:
        """Returns a digest of the samples from ``start`` to ``stop``."""
        return hashlib.blake2b(np.ascontiguousarray(self.samples[start:stop]).data, digest_size=16).digest()

    def float32(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.float32]:
        """Returns a copy of the samples from ``start`` to ``stop``, shape (stop - start,), scaled to [-1, 1)."""
        return self.samples[start:stop].astype(np.float32) / np.float32(32768.0)


class AudioSpool:
    """Writes the bytes of one audio to an unlinked temporary file and checks them against their digest."""

    def __init__(self, expected: Digest, directory: Path | None = None) -> None:
        self._expected = expected
        self._hash = hashlib.sha256()
        self._size = 0
        with disk_space(_full):
            self._file = tempfile.TemporaryFile(dir=directory, prefix="careca-audio-", buffering=0)  # noqa: SIM115

    def __enter__(self) -> AudioSpool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, chunk: bytes) -> None:
        """Appends ``chunk``.

        Raises ``InvalidRequest`` as soon as there are more bytes than announced, and ``Overloaded`` (DISK_FULL).
        """
        self._size += len(chunk)
        if self._size > self._expected.size_bytes:
            raise InvalidRequest(
                f"more audio was sent than the {self._expected.size_bytes} bytes announced",
                reason="DIGEST_MISMATCH",
                field="config.audio.size_bytes",
            )
        self._hash.update(chunk)
        with disk_space(_full):
            write_all(self._file, chunk)

    def finish(self) -> Audio:
        """Returns the audio, backed by the file. Raises ``InvalidRequest`` if it does not match its digest."""
        if self._size != self._expected.size_bytes or self._hash.hexdigest() != self._expected.sha256:
            raise InvalidRequest(
                f"the {self._size} bytes of audio received do not match the digest announced",
                reason="DIGEST_MISMATCH",
                field="config.audio",
            )
        if self._size == 0:
            return Audio(np.zeros(0, dtype=np.int16))
        samples = np.memmap(self._file, dtype="<i2", mode="r", shape=(self._size // SAMPLE_BYTES,))
        return Audio(samples, self._file.fileno())

    def close(self) -> None:
        """Frees the disk space; the audio must no longer be in use."""
        self._file.close()


def _full() -> Overloaded:
    _log.error("the disk is full")
    return disk_full()
