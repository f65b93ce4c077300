"""Log mel filter banks like Kaldi's, for whole batches and on any device.

The frames, window and bands are those of Kaldi's ``compute-fbank-feats`` with a Povey window, 80 bands from 20 Hz to
the Nyquist frequency and no dither.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from careca.types import SAMPLE_RATE

FRAME_SAMPLES = 400
"""Length of a frame: 25 ms."""

FRAME_STEP_SAMPLES = 160
"""Distance between frames: 10 ms."""

_FFT_SIZE = 512
_LOWEST_HZ = 20.0
_PREEMPHASIS = 0.97
_POVEY_EXPONENT = 0.85
_FLOOR = torch.finfo(torch.float32).eps
"""Smallest energy of a band, so that its logarithm exists for digital silence."""


def count_frames(samples: int) -> int:
    """Returns the number of whole frames in ``samples``."""
    return max(0, 1 + (samples - FRAME_SAMPLES) // FRAME_STEP_SAMPLES)


class FilterBank:
    """Samples to log mel energies on one device."""

    def __init__(self, bins: int, device: torch.device) -> None:
        self._bands = _mel_bands(bins).to(device)
        self._window = torch.hann_window(FRAME_SAMPLES, periodic=False, device=device) ** _POVEY_EXPONENT

    def __call__(self, samples: Tensor) -> Tensor:
        """Returns log energies of ``samples`` in [-1, 1): (..., samples) -> (..., frames, bins); whole frames only."""
        frames = samples.unfold(-1, FRAME_SAMPLES, FRAME_STEP_SAMPLES)
        frames = frames - frames.mean(dim=-1, keepdim=True)
        previous = functional.pad(frames[..., :-1], (1, 0))
        previous[..., 0] = frames[..., 0]
        frames = (frames - _PREEMPHASIS * previous) * self._window
        power = torch.fft.rfft(frames, n=_FFT_SIZE).abs().square()
        energies: Tensor = power @ self._bands
        return energies.clamp(min=_FLOOR).log()


def _mel(hertz: Tensor) -> Tensor:
    """The mel scale of Kaldi and HTK."""
    return 1127.0 * torch.log1p(hertz / 700.0)


def _mel_bands(bins: int) -> Tensor:
    """Returns triangular bands of equal width in mel: (FFT bins, ``bins``)."""
    low, high = _mel(torch.tensor([_LOWEST_HZ, SAMPLE_RATE / 2]))
    edges = torch.linspace(float(low), float(high), bins + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    frequency = _mel(torch.arange(_FFT_SIZE // 2 + 1) * (SAMPLE_RATE / _FFT_SIZE)).unsqueeze(1)
    rising = (frequency - left) / (centre - left)
    falling = (right - frequency) / (right - centre)
    bands = torch.minimum(rising, falling).clamp(min=0.0)
    bands[-1] = 0.0  # Kaldi omits the Nyquist bin
    return bands
