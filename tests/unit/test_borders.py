"""Turns end where the sound does."""

from __future__ import annotations

import numpy as np
import pytest

from careca.audio import Audio
from careca.types import SAMPLE_RATE, Turn
from careca_diarizer.borders import follow_level

SECONDS = 20.0
BACKGROUND, SPEECH = 0.0003, 0.1


def audio(*sounds: tuple[float, float, float], background: float = BACKGROUND) -> Audio:
    """Noise of the level of the background, and of a level of its own from and to the seconds of each sound."""
    random = np.random.default_rng(1)
    level = np.full(round(SECONDS * SAMPLE_RATE), background)
    for start, end, amplitude in sounds:
        level[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] = amplitude
    return Audio((level * random.standard_normal(len(level)) * 32767).clip(-32768, 32767).astype(np.int16))


def followed(turns: list[Turn], sound: Audio) -> list[tuple[float, float, str]]:
    return [(round(turn.start, 1), round(turn.end, 1), turn.speaker) for turn in follow_level(turns, sound)]


def test_a_turn_that_begins_late_and_ends_early_is_prolonged_to_the_sound() -> None:
    assert followed([Turn(5.2, 8.7, "a")], audio((5.0, 9.0, SPEECH))) == [(5.0, 9.0, "a")]


def test_what_is_silent_at_the_ends_of_a_turn_and_in_long_pauses_is_no_speech() -> None:
    sound = audio((5.0, 6.0, SPEECH), (7.0, 8.0, SPEECH))

    assert followed([Turn(4.5, 8.5, "a")], sound) == [(5.0, 6.0, "a"), (7.0, 8.0, "a")]


def test_a_short_pause_stays_in_a_turn() -> None:
    assert followed([Turn(5.0, 8.0, "a")], audio((5.0, 6.0, SPEECH), (6.3, 8.0, SPEECH))) == [(5.0, 8.0, "a")]


def test_a_turn_is_prolonged_by_half_a_second_at_most() -> None:
    assert followed([Turn(5.0, 8.0, "a")], audio((2.0, 11.0, SPEECH))) == [(4.5, 8.5, "a")]


def test_a_sound_after_a_pause_is_not_reached() -> None:
    assert followed([Turn(5.0, 8.0, "a")], audio((5.0, 8.0, SPEECH), (8.45, 9.0, SPEECH))) == [(5.0, 8.0, "a")]


def test_what_is_only_a_little_louder_than_the_background_is_not_reached() -> None:
    assert followed([Turn(5.0, 8.0, "a")], audio((5.0, 8.0, SPEECH), (8.0, 9.0, 5 * BACKGROUND))) == [(5.0, 8.0, "a")]


def test_what_lies_between_two_turns_belongs_to_one_of_them() -> None:
    turns = [Turn(5.0, 7.8, "a"), Turn(8.0, 9.0, "b")]

    assert followed(turns, audio((5.0, 9.0, SPEECH))) == [(5.0, 8.0, "a"), (8.0, 9.0, "b")]


def test_where_two_speak_at_once_the_level_says_nothing_about_either() -> None:
    turns = [Turn(5.0, 9.0, "a"), Turn(6.0, 8.0, "b")]

    assert followed(turns, audio((5.0, 6.0, SPEECH), (8.0, 9.0, SPEECH))) == [(5.0, 9.0, "a"), (6.0, 8.0, "b")]


@pytest.mark.parametrize("background", [0.02, 0.1])
def test_nothing_changes_where_the_background_is_loud(background: float) -> None:
    assert followed([Turn(5.3, 8.2, "a")], audio((5.0, 9.0, 0.1), background=background)) == [(5.3, 8.2, "a")]


def test_nobody_is_lost_who_speaks_no_louder_than_the_background() -> None:
    turns = [Turn(2.0, 4.0, "quiet"), Turn(5.0, 8.0, "loud")]

    assert followed(turns, audio((5.0, 8.0, SPEECH))) == [(2.0, 4.0, "quiet"), (5.0, 8.0, "loud")]


def test_no_turns_and_turns_up_to_the_very_end_are_fine() -> None:
    assert follow_level([], audio()) == ()
    assert follow_level([Turn(18.0, SECONDS, "a")], audio((18.0, SECONDS, SPEECH)))[0].end == SECONDS


def test_digital_silence_around_a_recording_changes_nothing() -> None:
    sound = audio((5.0, 9.0, SPEECH), (9.0, 10.0, 5 * BACKGROUND))
    nothing = np.zeros(30 * SAMPLE_RATE, dtype=np.int16)
    padded = Audio(np.concatenate([nothing, sound.samples, nothing]))

    assert followed([Turn(35.2, 38.8, "a")], padded) == [(35.0, 39.0, "a")]


def test_digital_silence_in_a_turn_is_no_speech() -> None:
    sound = audio((0.0, SECONDS, SPEECH))
    sound.samples[10 * SAMPLE_RATE : 11 * SAMPLE_RATE] = 0

    assert followed([Turn(5.0, 15.0, "a")], sound) == [(5.0, 10.0, "a"), (11.0, 15.0, "a")]
