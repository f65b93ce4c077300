"""The peaks of decoded audio, for drawing.

A waveform has one bucket for each 20 ms: two bytes, the smallest and the greatest sample, each as a signed byte. The
last bucket may be shorter. Ten hours have 1.8 million buckets, 3.6 MB. What is drawn has wider buckets, which are made
from these.
"""

from __future__ import annotations

import asyncio

import numpy as np
import numpy.typing as npt

from careca.types import SAMPLE_BYTES, SAMPLE_RATE, Peaks
from careca_gateway.storage.stored_bytes import StoredBytes

BUCKET_SECONDS = 0.02
"""Duration of a bucket."""

BUCKET_SAMPLES = round(BUCKET_SECONDS * SAMPLE_RATE)
"""Number of samples of a bucket."""

BUCKET_BYTES = 2
"""Size of a bucket of a waveform."""

BLOCK_BYTES = 4096 * BUCKET_SAMPLES * SAMPLE_BYTES
"""How much audio is read at a time: 82 s, 2.5 MiB."""


async def compute_waveform(audio: StoredBytes) -> bytes:
    """Returns the waveform of the audio. Reads the audio in blocks, each in a thread.

    Raises ``NotFound`` if the audio is removed meanwhile.
    """
    size, waveform = audio.digest.size_bytes, bytearray()
    for offset in range(0, size, BLOCK_BYTES):
        waveform += await asyncio.to_thread(_compute_block, audio, offset, min(BLOCK_BYTES, size - offset))
    return bytes(waveform)


def _compute_block(audio: StoredBytes, offset: int, length: int) -> bytes:
    samples = np.frombuffer(audio.read(offset, length), "<i2")
    firsts = np.arange(0, len(samples), BUCKET_SAMPLES)
    peaks = np.stack((np.minimum.reduceat(samples, firsts), np.maximum.reduceat(samples, firsts)), axis=1)
    return (peaks >> 8).astype(np.int8).tobytes()


def merge_buckets(waveform: bytes, width: int) -> Peaks:
    """Returns peaks with buckets that are ``width`` times as long as those of ``waveform``."""
    buckets: npt.NDArray[np.int8] = np.frombuffer(waveform, np.int8).reshape(-1, 2)  # (buckets, smallest and greatest)
    firsts = np.arange(0, len(buckets), width)
    return Peaks(
        np.minimum.reduceat(buckets[:, 0], firsts).tobytes(), np.maximum.reduceat(buckets[:, 1], firsts).tobytes()
    )
