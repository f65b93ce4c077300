"""Filter banks are Kaldi's, and the same in numpy and in torch."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from careca.types import SAMPLE_RATE
from careca_diarizer.fbank import FilterBank, FilterBankFeatures, count_frames
from careca_diarizer.pyannote_setup import hide_cuda_extension
from careca_diarizer.runtime import MEL_BINS, Features, Floats
from careca_diarizer.torch_networks import TorchFeatures, TorchFilterBank

CPU = torch.device("cpu")
FilterBankFunction = Callable[[Floats], Floats]


def noise(*shape: int) -> Floats:
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


def of_numpy(samples: Floats) -> Floats:
    return FilterBank()(samples)


def of_torch(samples: Floats) -> Floats:
    return np.asarray(TorchFilterBank(CPU)(torch.from_numpy(samples)))


@pytest.fixture(params=[of_numpy, of_torch])
def energies_of(request: pytest.FixtureRequest) -> FilterBankFunction:
    function: FilterBankFunction = request.param
    return function


@pytest.fixture(params=[FilterBankFeatures, lambda: TorchFeatures(CPU)], ids=["numpy", "torch"])
def features_of(request: pytest.FixtureRequest) -> Features:
    features: Features = request.param()
    return features


def test_filter_banks_are_kaldis(energies_of: FilterBankFunction) -> None:
    hide_cuda_extension()
    from torchaudio.compliance import kaldi

    samples = noise(2, SAMPLE_RATE)

    ours = energies_of(samples)

    for row, energies in zip(samples, ours, strict=True):
        theirs = kaldi.fbank(
            torch.from_numpy(row)[None], num_mel_bins=MEL_BINS, sample_frequency=SAMPLE_RATE, dither=0.0
        )
        assert np.allclose(energies, theirs, atol=1e-3)


@pytest.mark.parametrize(
    "samples",
    [noise(SAMPLE_RATE), 0.1 * noise(SAMPLE_RATE), 0.5 + noise(SAMPLE_RATE), np.sign(noise(SAMPLE_RATE))],
    ids=["noise", "quiet", "with an offset", "clipped"],
)
def test_numpy_and_torch_agree(samples: Floats) -> None:
    ours, theirs = of_numpy(samples), of_torch(samples)

    assert ours.dtype == theirs.dtype == np.float32
    assert np.abs(ours - theirs).max() < 1e-3


def test_filter_banks_of_digital_silence_are_finite(energies_of: FilterBankFunction) -> None:
    assert np.isfinite(energies_of(np.zeros(SAMPLE_RATE, dtype=np.float32))).all()


@pytest.mark.parametrize("samples", [399, 400, 559, 560, 16_000])
def test_frames_are_counted_as_they_are_cut(samples: int, energies_of: FilterBankFunction) -> None:
    energies = energies_of(np.zeros(samples, dtype=np.float32)) if samples >= 400 else np.zeros(0)

    assert len(energies) == count_frames(samples)


def test_features_have_the_length_asked_for_and_a_mean_of_zero_over_the_cut(features_of: Features) -> None:
    cuts = [noise(SAMPLE_RATE), noise(SAMPLE_RATE // 2)]  # 98 and 48 frames
    whole = [of_numpy(cut) - of_numpy(cut).mean(axis=0) for cut in cuts]

    features = np.asarray(features_of(cuts, 60))

    assert features.shape == (2, 60, MEL_BINS)
    assert features.dtype == np.float32
    assert np.abs(features[0] - whole[0][:60]).max() < 1e-3, "the first frames"
    assert np.abs(features[1] - np.concatenate([whole[1], whole[1][:12]])).max() < 1e-3, "repeated from the start"
