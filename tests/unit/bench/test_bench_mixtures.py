"""Conversations that the benchmark makes: what is asked for is what they are."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from bench.diarization import mixtures
from bench.diarization.mixtures import Recipe
from careca.types import SAMPLE_RATE, Turn

RECIPE = Recipe(
    seed=3, speakers=3, seconds=60.0, turn_seconds=3.0, overlap=0.0, imbalance=0.0, noise_db=None, telephone=False
)


def utterance(hertz: float, seconds: float, pause: float = 0.0) -> np.ndarray:
    """A buzz, in two parts with a pause between them if one is asked for."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    buzz = np.float32(0.1) * np.sign(np.sin(2 * np.pi * hertz * time)).astype(np.float32)
    silence = np.zeros(round(pause * SAMPLE_RATE), dtype=np.float32)
    return np.concatenate([buzz, silence, buzz]) if pause else buzz


@pytest.fixture(scope="module")
def voices() -> list[mixtures.Voice]:
    return mixtures.make_voices(
        {f"{hertz}": [utterance(hertz, 14.0), utterance(hertz, 16.0)] for hertz in (90, 130, 210)}
    )


def test_people_are_heard_at_their_own_speed_as_long_as_there_are_enough(voices: list[mixtures.Voice]) -> None:
    def names(speakers: int) -> list[str]:
        return sorted({turn.speaker for turn in mixtures.mix(voices, replace(RECIPE, speakers=speakers)).turns})

    assert len(voices) == 3 * len(mixtures.SPEEDS)
    assert names(3) == ["130@1.00", "210@1.00", "90@1.00"]
    assert sorted(name.split("@")[1] for name in names(4)) == ["0.89", "1.00", "1.00", "1.12"]
    assert len(names(6)) == 6


def test_the_same_recipe_makes_the_same_conversation(voices: list[mixtures.Voice]) -> None:
    one, again = mixtures.mix(voices, RECIPE), mixtures.mix(voices, RECIPE)

    assert one.turns == again.turns
    assert np.array_equal(one.samples, again.samples)
    assert mixtures.mix(voices, replace(RECIPE, seed=4)).turns != one.turns


def test_the_truth_is_where_the_sound_is(voices: list[mixtures.Voice]) -> None:
    mixture = mixtures.mix(voices, RECIPE)
    spoken = np.zeros(len(mixture.samples), dtype=bool)
    for turn in mixture.turns:
        spoken[round(turn.start * SAMPLE_RATE) : round(turn.end * SAMPLE_RATE)] = True

    assert len(mixture.samples) == 60 * SAMPLE_RATE
    assert np.abs(mixture.samples[spoken].astype(int)).mean() > 1000
    assert np.count_nonzero(mixture.samples[~spoken]) < 0.01 * np.count_nonzero(spoken)  # parts of frames of 10 ms


def test_turns_overlap_only_where_the_recipe_says_so(voices: list[mixtures.Voice]) -> None:
    def overlaps(share: float) -> bool:
        turns = mixtures.mix(voices, replace(RECIPE, overlap=share)).turns
        return any(later.start < earlier.end for earlier, later in itertools.pairwise(turns))

    assert not overlaps(0.0)
    assert overlaps(0.5)


def test_imbalance_makes_one_speak_more_than_another(voices: list[mixtures.Voice]) -> None:
    def ratio(imbalance: float) -> float:
        spoken: dict[str, float] = {}
        for turn in mixtures.mix(voices, replace(RECIPE, seconds=300.0, imbalance=imbalance)).turns:
            spoken[turn.speaker] = spoken.get(turn.speaker, 0.0) + turn.end - turn.start
        return max(spoken.values()) / min(spoken.values())

    assert ratio(0.0) < 1.5 < ratio(1.0)


def test_noise_fills_the_pauses_and_a_telephone_takes_the_lows_away(voices: list[mixtures.Voice]) -> None:
    noisy = mixtures.mix(voices, replace(RECIPE, noise_db=15.0)).samples
    plain, telephone = (
        mixtures.mix(voices, replace(RECIPE, telephone=telephone)).samples for telephone in (False, True)
    )

    def lows(samples: np.ndarray) -> float:
        spectrum = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
        return float(spectrum[: 150 * 60].sum() / spectrum.sum())

    assert np.count_nonzero(noisy) > 0.99 * len(noisy)
    assert lows(telephone) < lows(plain) / 4


def test_recipes_go_from_one_speaker_to_ten_again_and_again() -> None:
    assert [recipe.speakers for recipe in mixtures.recipes(20)] == [*range(1, 11), *range(1, 11)]


def test_more_speakers_than_voices_are_refused(voices: list[mixtures.Voice]) -> None:
    with pytest.raises(ValueError, match="7 speakers need as many voices; there are 6"):
        mixtures.mix(voices, replace(RECIPE, speakers=7))


def test_short_pauses_belong_to_speech_and_long_ones_do_not() -> None:
    assert list(mixtures.speech_of(utterance(100, 1.0, pause=0.3))) == [(0.0, 2.3)]
    assert list(mixtures.speech_of(utterance(100, 1.0, pause=0.6))) == [(0.0, 1.0), (1.6, 2.6)]
    assert list(mixtures.speech_of(np.zeros(10, dtype=np.float32))) == []


def test_turns_of_one_speaker_that_nearly_meet_are_one() -> None:
    turns = [Turn(0.0, 1.0, "a"), Turn(1.2, 2.0, "a"), Turn(1.5, 3.0, "b"), Turn(2.6, 3.0, "a")]

    assert mixtures._joined(turns) == (Turn(0.0, 2.0, "a"), Turn(1.5, 3.0, "b"), Turn(2.6, 3.0, "a"))
