"""Crosstalk of another channel is silenced, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careca_gateway.decoding.crosstalk import FRAME_BYTES, HOLD_FRAMES, RATIO, CrosstalkGate

RATE = 16_000
HELD = HOLD_FRAMES * FRAME_BYTES // 2 + RATE // 100
"""The number of samples after which an earlier level no longer counts."""


def voice(seconds: float = 1.0, loudness: float = 8_000.0, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return np.clip(noise * loudness, -32_768, 32_767).astype("<i2")


def silence(seconds: float = 1.0) -> np.ndarray:
    return np.zeros(round(seconds * RATE), "<i2")


def echo(samples: np.ndarray, decibels: float = -30.0, delay: float = 0.0) -> np.ndarray:
    """Returns ``samples`` as another channel picks them up."""
    late = np.concatenate([silence(delay), samples])[: len(samples)]
    return (late * 10 ** (decibels / 20)).astype("<i2")


def gated(*channels: np.ndarray, block_bytes: int = 4_096) -> list[np.ndarray]:
    gate = CrosstalkGate(len(channels))
    pcm = [channel.tobytes() for channel in channels]
    parts = [gate.feed([each[at : at + block_bytes] for each in pcm]) for at in range(0, len(pcm[0]), block_bytes)]
    parts.append(gate.rest())
    return [np.frombuffer(b"".join(blocks), "<i2") for blocks in zip(*parts, strict=True)]


@pytest.mark.parametrize("decibels", [-25.0, -30.0, -50.0])
def test_an_echo_is_silenced_and_the_voice_that_made_it_is_not(decibels: float) -> None:
    speaker = voice()

    heard, other = gated(speaker, echo(speaker, decibels))

    assert np.array_equal(heard, speaker)
    assert not other.any()


def test_a_late_echo_is_silenced_to_its_end() -> None:
    speaker = np.concatenate([voice(), silence()])

    _, other = gated(speaker, echo(speaker, delay=0.2))

    assert not other.any()


def test_both_voices_stay_if_two_people_talk_and_one_is_quieter() -> None:
    loud, quiet = voice(seed=1), voice(loudness=8_000 / RATIO * 1.5, seed=2)

    assert all(map(np.array_equal, gated(loud, quiet), (loud, quiet)))


def test_a_quiet_voice_stays_after_the_loud_one_has_ended() -> None:
    quiet = voice(2.0, loudness=100.0)

    _, heard = gated(np.concatenate([voice(), silence()]), quiet)

    assert not heard[:RATE].any()
    assert np.array_equal(heard[RATE + HELD :], quiet[RATE + HELD :])


def test_an_answer_is_complete_from_its_first_frame() -> None:
    question, answer = np.concatenate([voice(), silence()]), np.concatenate([silence(), voice(seed=1)])

    assert all(map(np.array_equal, gated(question, answer + echo(question)), (question, answer)))


def test_gaps_between_syllables_are_not_silenced() -> None:
    syllable = np.concatenate([voice(0.12), voice(0.16, loudness=200.0)])
    speaker = np.concatenate([syllable] * 6)
    other = voice(len(speaker) / RATE, seed=3)

    assert np.array_equal(gated(speaker, other)[0], speaker)


def test_noise_on_channels_without_speech_is_unchanged() -> None:
    noise = [voice(loudness=30.0, seed=seed) for seed in range(3)]

    assert all(map(np.array_equal, gated(*noise), noise))


def test_the_echo_of_one_is_silenced_on_every_other_channel() -> None:
    speaker = voice()

    first, heard, last = gated(echo(speaker), speaker, echo(speaker, -40))

    assert np.array_equal(heard, speaker)
    assert not first.any()
    assert not last.any()


@settings(max_examples=30)
@given(st.integers(1, 5_000), st.integers(1, 2_000))
def test_the_output_does_not_depend_on_the_block_sizes(samples: int, block: int) -> None:
    speaker = voice()[:samples]
    channels = (speaker, echo(speaker))

    assert all(map(np.array_equal, gated(*channels, block_bytes=2 * block), gated(*channels)))
    assert [len(channel) for channel in gated(*channels)] == [samples, samples]
