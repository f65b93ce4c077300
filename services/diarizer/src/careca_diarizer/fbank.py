"""Log mel filter banks like Kaldi's.

The frames, window and bands are those of Kaldi's ``compute-fbank-feats`` with a Povey window, 80 bands from 20 Hz to
the Nyquist frequency and no dither. ``torch_networks`` computes the same on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import rfft

from careca.types import SAMPLE_RATE
from careca_diarizer.runtime import MEL_BINS, Floats

FRAME_SAMPLES = 400
"""Length of a frame: 25 ms."""

FRAME_STEP_SAMPLES = 160
"""Distance between frames: 10 ms."""

FFT_SIZE = 512
PREEMPHASIS = 0.97
FLOOR = float(np.finfo(np.float32).eps)
"""Smallest energy of a band, so that its logarithm exists for digital silence."""

_LOWEST_HZ = 20.0
_POVEY_EXPONENT = 0.85


def count_frames(samples: int) -> int:
    """Returns the number of whole frames in ``samples``."""
    return max(0, 1 + (samples - FRAME_SAMPLES) // FRAME_STEP_SAMPLES)


class FilterBankFeatures:
    """``Features`` on the CPU."""

    def __init__(self) -> None:
        self._filter_bank = FilterBank()

    def __call__(self, cuts: Sequence[Floats], length: int) -> Floats:
        """See ``Features``."""
        features = np.empty((len(cuts), length, MEL_BINS), dtype=np.float32)
        for row, cut in zip(features, cuts, strict=True):
            energies = self._filter_bank(cut)
            row[:] = (energies - energies.mean(axis=0))[np.arange(length) % len(energies)]
        return features


class FilterBank:
    """Samples to log mel energies."""

    def __init__(self) -> None:
        self._bands = mel_bands()
        self._window = povey_window()

    def __call__(self, samples: Floats) -> Floats:
        """Returns log energies of ``samples`` in [-1, 1): (..., samples) -> (..., frames, 80); whole frames only."""
        frames = sliding_window_view(samples, FRAME_SAMPLES, axis=-1)[..., ::FRAME_STEP_SAMPLES, :]
        frames = frames - frames.mean(axis=-1, keepdims=True)
        emphasised = np.empty_like(frames)
        emphasised[..., 0] = (1.0 - PREEMPHASIS) * frames[..., 0]
        emphasised[..., 1:] = frames[..., 1:] - PREEMPHASIS * frames[..., :-1]
        emphasised *= self._window
        spectrum = rfft(emphasised, n=FFT_SIZE, overwrite_x=True)
        energies: Floats = (spectrum.real**2 + spectrum.imag**2) @ self._bands
        return np.log(np.maximum(energies, np.float32(FLOOR)))


def povey_window() -> Floats:
    """Returns the window by which each frame is multiplied: shape (400,)."""
    return (np.hanning(FRAME_SAMPLES) ** _POVEY_EXPONENT).astype(np.float32)


def mel_bands() -> Floats:
    """Returns triangular bands of equal width in mel: (FFT bins, 80)."""
    low, high = _mel(np.array([_LOWEST_HZ, SAMPLE_RATE / 2]))
    edges = np.linspace(low, high, MEL_BINS + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    frequency = _mel(np.arange(FFT_SIZE // 2 + 1) * np.float64(SAMPLE_RATE / FFT_SIZE))[:, np.newaxis]
    rising = (frequency - left) / (centre - left)
    falling = (right - frequency) / (right - centre)
    bands: npt.NDArray[np.float64] = np.maximum(np.minimum(rising, falling), 0.0)
    bands[-1] = 0.0  # Kaldi omits the Nyquist bin
    return bands.astype(np.float32)


def _mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mel scale of Kaldi and HTK."""
    return 1127.0 * np.log1p(hertz / 700.0)
