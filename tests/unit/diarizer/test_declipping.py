"""Clipped samples are restored; audio without clipping is unchanged."""

import errno
import os

import numpy as np
import numpy.typing as npt
import pytest

from careca.inference.audio import Audio
from careca_diarizer.declipping import declipped
from support.calls import phone_call

Samples = npt.NDArray[np.int16]


def amplified(decibels: float) -> tuple[npt.NDArray[np.float64], Samples]:
    """The call with a level that is too high: without a limit (full scale is 1), and clipped at full scale."""
    wanted = phone_call().samples * 10 ** (decibels / 20)
    return wanted / 32_767, np.clip(np.round(wanted), -32_768, 32_767).astype(np.int16)


def cut_off(samples: Samples) -> npt.NDArray[np.bool_]:
    return np.abs(samples.astype(np.int32)) >= 32_767


def decibels_of(signal: npt.NDArray[np.float64], error: npt.NDArray[np.float64]) -> float:
    return float(10 * np.log10(np.sum(signal**2) / np.sum(error**2)))


@pytest.mark.parametrize(("too_loud", "at_least"), [(12.0, 40.0), (18.0, 30.0), (25.0, 11.0)])
def test_clipped_speech_is_restored(too_loud: float, at_least: float) -> None:
    wanted, samples = amplified(too_loud)
    where = cut_off(samples)

    restored = declipped(Audio(samples)).samples * (4 / 32_767)

    before = decibels_of(wanted[where], wanted[where] - samples[where] / 32_767)
    after = decibels_of(wanted[where], wanted[where] - restored[where])
    assert after >= at_least
    assert after > before + 4.0


def test_samples_that_are_not_clipped_only_get_quieter() -> None:
    _, samples = amplified(18.0)
    where = ~cut_off(samples)

    restored = declipped(Audio(samples)).samples

    assert len(restored) == len(samples)
    assert restored[where].tolist() == np.round(samples[where] / 4).astype(np.int16).tolist()


def test_restored_samples_are_never_below_full_scale() -> None:
    _, samples = amplified(25.0)
    where = cut_off(samples)

    restored = declipped(Audio(samples)).samples[where].astype(np.int32)

    assert np.array_equal(np.sign(restored), np.sign(samples[where]))
    assert np.abs(restored).min() >= 32_767 // 4


def test_loud_audio_without_clipping_is_unchanged() -> None:
    samples = phone_call().samples.copy()
    samples[1000:1010] = 32_767

    audio = Audio(samples)

    assert declipped(audio) is audio


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0, dtype=np.int16),
        np.full(100, 32_767, dtype=np.int16),
        np.zeros(50_000, dtype=np.int16),
    ],
    ids=["empty", "too short to be modelled", "silent"],
)
def test_audio_without_clipping_is_unchanged(samples: Samples) -> None:
    audio = Audio(samples)

    assert declipped(audio) is audio


@pytest.mark.parametrize("samples", [2048, 2049, 5000, 70_001])
def test_noise_that_is_clipped_everywhere_is_handled(samples: int) -> None:
    noise = np.random.default_rng(samples).choice(np.array([-32_768, 32_767, 0], dtype=np.int16), samples)

    restored = declipped(Audio(noise)).samples

    assert len(restored) == samples
    assert np.array_equal(np.sign(restored), np.sign(noise))


def test_a_square_wave_that_is_at_full_scale_throughout_stays_as_it_is() -> None:
    wave = np.tile(np.repeat(np.array([-32_768, 32_767], dtype=np.int16), 40), 500)

    assert np.array_equal(declipped(Audio(wave)).samples, np.round(wave / 4).astype(np.int16))


def test_with_a_full_disk_the_audio_is_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    audio = Audio(amplified(18.0)[1])

    assert declipped(audio) is audio
