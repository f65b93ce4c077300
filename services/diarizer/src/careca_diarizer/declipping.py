"""Declipping: restores clipped samples before voices are compared, because clipping makes voices similar.

The signal is modelled as an autoregressive process. The missing samples are chosen to minimise the prediction error;
model and samples are estimated in turn (Janssen, Veldhuis and Vries, "Adaptive interpolation of discrete-time signals
that can be modeled as autoregressive processes", IEEE Transactions on Acoustics, Speech, and Signal Processing, 1986).
Restored samples are at least at full scale, because they were clipped there.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from careca.inference.audio import Audio
from careca.telemetry.logs import get_logger
from careca.types import SAMPLE_BYTES

Floats = npt.NDArray[np.float64]

_FULL_SCALE = 32_767
"""Samples with at least this magnitude are clipped."""

_LEAST_SHARE = 1e-4
"""A recording with a smaller share of samples at full scale is loud, but not clipped."""

_HEADROOM = 4
"""The restored audio is divided by this, to make room for the restored peaks: 12 dB."""

_WINDOW = 2048
"""Samples per model: 128 ms, in which speech changes little. The middle half of the result is used."""

_MOST_MISSING = _WINDOW // 2
"""A window with more clipped samples has too little information and is not restored."""

_ORDER = 32
"""Order of the model: enough for the resonances of a voice up to 8 kHz."""

_ROUNDS = 5
"""Iterations of model and samples; after five, little changes."""

_BLOCK = 1 << 20
"""Samples that are processed at once, to bound the memory."""

_log = get_logger(__name__)


def declipped(audio: Audio, directory: Path | None = None, *, log_level: int = logging.INFO) -> Audio:
    """Returns clipped audio with a lower level and restored peaks; other audio unchanged.

    The restored samples are in an unnamed temporary file in ``directory``, which is removed together with them. If
    there is no space for the file, the audio stays clipped and a warning is logged. That audio is clipped is logged at
    ``log_level``.
    """
    samples = audio.samples
    blocks = range(0, len(samples), _BLOCK)
    clipped = sum(int(np.count_nonzero(_clipped(samples[start : start + _BLOCK]))) for start in blocks)
    if clipped < max(1.0, _LEAST_SHARE * len(samples)) or len(samples) < _WINDOW:
        return audio
    share = round(clipped / len(samples), 5)
    _log.log(log_level, "clipped audio is restored", clipped_samples=clipped, share=share)
    try:
        restored = _new_samples(len(samples), directory)
    except OSError as error:
        _log.warning("clipped audio cannot be restored", error=str(error))
        return audio
    for start in blocks:
        restored[start : start + _BLOCK] = np.round(samples[start : start + _BLOCK] / _HEADROOM)
    for start in _window_starts(len(samples)):
        window = slice(start, start + _WINDOW)
        missing = np.flatnonzero(_clipped(samples[window]))
        first = 0 if start == 0 else _WINDOW // 4
        last = _WINDOW if start + _WINDOW == len(samples) else _WINDOW - _WINDOW // 4
        kept = (missing >= first) & (missing < last)
        if kept.any() and len(missing) <= _MOST_MISSING:
            values = _interpolate(samples[window] / _FULL_SCALE, missing)[kept]
            restored[start + missing[kept]] = np.round(np.clip(values, -_HEADROOM, _HEADROOM) * _FULL_SCALE / _HEADROOM)
    return Audio(restored)


def _new_samples(count: int, directory: Path | None) -> npt.NDArray[np.int16]:
    """Returns a mapped file for samples. Raises ``OSError`` if the disk is full, which writing to it would not."""
    with tempfile.TemporaryFile(dir=directory, prefix="careca-declipped-") as file:
        os.posix_fallocate(file.fileno(), 0, count * SAMPLE_BYTES)
        return np.memmap(file, dtype=np.int16, mode="r+", shape=(count,))


def _clipped(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.bool_]:
    return (samples >= _FULL_SCALE) | (samples <= -_FULL_SCALE)


def _window_starts(samples: int) -> list[int]:
    """Returns the starts of windows that overlap by half; the last window ends with the audio."""
    last = samples - _WINDOW
    return [*range(0, last, _WINDOW // 2), last]


def _interpolate(samples: Floats, missing: npt.NDArray[np.int64]) -> Floats:
    """Returns the values of the ``missing`` samples of a window with a full scale of 1: shape (missing,)."""
    from scipy.linalg import solveh_banded

    signs = np.sign(samples[missing])
    known = samples.copy()
    known[missing] = 0.0
    restored = samples.copy()
    apart = _distances(missing)
    taper = np.hanning(len(samples))
    for _ in range(_ROUNDS):
        weights = _prediction_weights(restored * taper)
        band = weights[apart]
        band[0] *= 1.0 + 1e-6
        around = np.convolve(known, np.concatenate([weights[_ORDER:0:-1], weights[: _ORDER + 1]]))[missing + _ORDER]
        restored[missing] = signs * np.maximum(signs * solveh_banded(band, -around, lower=True), 1.0)
    return restored[missing]


def _distances(missing: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns the distance of each missing sample to the following missing ones: (places, missing).

    Distances greater than the order are one more than the order. The result is a symmetric matrix in banded form.
    """
    places = min(_ORDER + 1, len(missing))
    apart = np.full((places, len(missing)), _ORDER + 1, dtype=np.int64)
    for place in range(places):
        apart[place, : len(missing) - place] = np.minimum(missing[place:] - missing[: len(missing) - place], _ORDER + 1)
    return apart


def _prediction_weights(samples: Floats) -> Floats:
    """Returns the weight of a product of two samples in the squared prediction error, by distance: (order + 2,).

    This is the autocorrelation of the prediction filter, which follows from that of the samples (Yule and Walker). The
    last weight, beyond the filter, is 0.
    """
    from scipy.linalg import solve_toeplitz

    correlation = _autocorrelation(samples, _ORDER)
    noise_floor = np.zeros(_ORDER)
    noise_floor[0] = 1e-6 * correlation[0] + 1e-9
    predictor = np.concatenate([[1.0], -solve_toeplitz(correlation[:-1] + noise_floor, correlation[1:])])
    return np.append(_autocorrelation(predictor, _ORDER), 0.0)


def _autocorrelation(values: Floats, lags: int) -> Floats:
    """Returns the autocorrelation for each lag up to ``lags``: shape (lags + 1,)."""
    return np.array([values[: len(values) - lag] @ values[lag:] for lag in range(lags + 1)])
