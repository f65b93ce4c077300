"""Recordings that the benchmark makes: clips joined to a length, and a large file of silence."""

from __future__ import annotations

import itertools
import struct
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import numpy.typing as npt

from careca.types import SAMPLE_BYTES, SAMPLE_RATE

_WAV_HEADER_BYTES = 44
_BLOCK_SAMPLES = 60 * SAMPLE_RATE


def decode(source: Path | BinaryIO) -> npt.NDArray[np.int16]:
    """The first audio track of ``source`` as 16 kHz mono, shape (samples,)."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    with av.open(str(source) if isinstance(source, Path) else source, "r") as container:
        frames = itertools.chain(container.decode(audio=0), [None])
        blocks = [block.to_ndarray()[0] for frame in frames for block in resampler.resample(frame)]
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.int16)


def join(paths: Sequence[Path], seconds: float) -> npt.NDArray[np.int16]:
    """``paths`` one after the other, from the first again after the last, cut to ``seconds``: shape (samples,)."""
    return np.resize(_once(paths), round(seconds * SAMPLE_RATE))


def pieces(paths: Sequence[Path], lengths: Sequence[float]) -> list[npt.NDArray[np.int16]]:
    """Pieces of so many seconds, from places all over ``paths``, no two of them alike: each of shape (samples,).

    Raises ``ValueError`` where ``paths`` together are shorter than the longest.
    """
    once = _once(paths)
    sizes = [round(seconds * SAMPLE_RATE) for seconds in lengths]
    if max(sizes) > len(once):
        raise ValueError(f"{max(lengths):g} s are to be cut out of {len(once) / SAMPLE_RATE:g} s")
    starts = np.linspace(0, len(once) - max(sizes), len(sizes)).astype(int)
    return [once[start : start + size] for start, size in zip(starts, sizes, strict=True)]


def _once(paths: Sequence[Path]) -> npt.NDArray[np.int16]:
    """``paths`` one after the other: shape (samples,)."""
    samples = np.concatenate([decode(path) for path in paths])
    if not len(samples):
        raise ValueError("the clips to join have no audio")
    return samples


def pink_noise(count: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Noise whose power falls with the frequency, as that of rooms and machines does, at any level: shape (count,)."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 20)), count)


def write_flac(samples: npt.NDArray[np.int16], path: Path, *, comment: str = "") -> None:
    """Writes 16 kHz mono FLAC. Another ``comment`` makes another file, by its digest, of the same samples."""
    with av.open(str(path), "w", format="flac") as container:
        container.metadata["comment"] = comment
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono", format="s16")
        for start in range(0, len(samples), _BLOCK_SAMPLES):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + _BLOCK_SAMPLES], "s16", "mono")
            frame.sample_rate = SAMPLE_RATE
            frame.pts = start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_wav(samples: npt.NDArray[np.int16], path: Path) -> None:
    """Writes 16 kHz mono WAV of 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(SAMPLE_BYTES)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())


def write_silence(path: Path, size_bytes: int, *, rate: int = SAMPLE_RATE) -> None:
    """Writes a WAV file of ``size_bytes`` (even, below 4 GiB), 16-bit mono, all zeros: sparse where the disk can."""
    form = struct.pack("<HHIIHH", 1, 1, rate, rate * SAMPLE_BYTES, SAMPLE_BYTES, 8 * SAMPLE_BYTES)
    with path.open("wb") as file:
        file.write(struct.pack("<4sI4s", b"RIFF", size_bytes - 8, b"WAVE"))
        file.write(struct.pack("<4sI", b"fmt ", len(form)) + form)
        file.write(struct.pack("<4sI", b"data", size_bytes - _WAV_HEADER_BYTES))
        file.truncate(size_bytes)
