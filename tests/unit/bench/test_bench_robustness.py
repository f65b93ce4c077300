"""The table of what damage does to answers."""

from fractions import Fraction
from pathlib import Path

import pytest

pytest.importorskip("meeteval", reason="its package needs a C compiler to install", exc_type=ImportError)

from bench.common.dataset import DatasetError, Recording
from bench.common.scoring import DiarizationErrors, WordErrors
from bench.robustness import __main__ as robustness
from bench.system.quality import Score
from bench.system.results import Request
from careca.types import Turn, Utterance

CALL = Recording(
    "call",
    "phone",
    Path("call.flac"),
    "en",
    turns=(Turn(1.03, 2.06, "a"),),
    utterances=(Utterance(1.03, 2.06, "hello", "a"),),
)


def score(confusion: float, counts: int, words: int) -> Score:
    return Score(
        recording=CALL,
        audio_seconds=10.0,
        request=Request(1.0, 0, {}, ()),
        models=(),
        right_language=True,
        turns=DiarizationErrors(speech=10.0, confusion=confusion, recordings=1, right_speaker_counts=counts),
        utterances=WordErrors(reference=10, substitutions=words),
    )


def test_each_damage_stands_beside_the_undamaged_recordings() -> None:
    lines = robustness.report([("as they are", [score(1.0, 1, 2)]), ("clipped", [score(3.0, 0, 3)])]).splitlines()

    assert lines[2] == "| as they are | 0.100 | 0.100 | +0.000 | 1 of 1 | 0.200 | +0.000 |"
    assert lines[3] == "| clipped | 0.300 | 0.300 | +0.200 | 0 of 1 | 0.300 | +0.100 |"


def test_the_truth_about_what_is_played_faster_is_earlier() -> None:
    played = robustness.played(CALL, Fraction(103, 100))

    assert played.turns == (Turn(pytest.approx(1.0), pytest.approx(2.0), "a"),)
    assert played.utterances == (Utterance(pytest.approx(1.0), pytest.approx(2.0), "hello", "a"),)
    assert robustness.played(CALL, Fraction(1)) == CALL


def test_only_conversations_with_known_speakers_are_measured() -> None:
    unlabelled = Recording("talk", "phone", Path("talk.flac"), "en")
    read = Recording("fleurs-en-000", "fleurs", Path("r.ogg"), "en", turns=CALL.turns)

    assert robustness.labelled([CALL, unlabelled, read], quick=False) == [CALL]
    with pytest.raises(DatasetError, match="RTTM"):
        robustness.labelled([unlabelled, read], quick=False)
