"""What the benchmark does to recordings: each damage is audible, and always the same."""

from fractions import Fraction

import numpy as np
import pytest

from bench.robustness.damage import DAMAGES, Samples, amplified, in_noise
from support.calls import phone_call


@pytest.fixture(scope="module")
def call() -> Samples:
    return phone_call().samples[: 6 * 16_000]


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_a_damaged_recording_is_as_long_as_before_but_for_its_speed(call: Samples, name: str) -> None:
    damage = DAMAGES[name]

    damaged = damage.apply(call)

    assert damaged.dtype == np.int16
    assert len(damaged) == pytest.approx(len(call) / float(damage.speed), abs=1)
    assert not np.array_equal(damaged, call)
    assert np.array_equal(damaged, damage.apply(call))


@pytest.mark.parametrize("name", [name for name in sorted(DAMAGES) if DAMAGES[name].speed == Fraction(1)])
def test_speech_stays_where_it_was(call: Samples, name: str) -> None:
    """The envelope of the damaged recording fits best where it is, to a fiftieth of a second."""
    size = 320
    before, after = (
        np.abs(each[: len(each) // size * size].astype(np.float64)).reshape(-1, size).mean(axis=1)
        for each in (call, DAMAGES[name].apply(call))
    )

    fits = {lag: float(np.corrcoef(before[5:-5], np.roll(after, -lag)[5:-5])[0, 1]) for lag in range(-4, 5)}

    assert max(fits, key=lambda lag: fits[lag]) in (-1, 0, 1)


def test_what_is_too_loud_is_cut_off_at_full_scale(call: Samples) -> None:
    loud = amplified(40.0)(call)

    assert loud.max() == 32_767
    assert loud.min() == -32_768
    assert np.array_equal(np.sign(loud), np.sign(call))


def test_noise_is_as_far_below_the_speech_as_asked_for(call: Samples) -> None:
    noise = in_noise(15.0)(call).astype(np.float64) - call
    loud_half = np.sort((call[: len(call) // 1600 * 1600].astype(np.float64).reshape(-1, 1600) ** 2).mean(axis=1))[30:]

    assert 10 * np.log10(loud_half.mean() / np.mean(noise**2)) == pytest.approx(15.0, abs=0.5)
