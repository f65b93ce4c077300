"""From speech and the speakers of its pieces to the diarization: labels of speakers and their voices."""

from pathlib import Path

import numpy as np

from careca.inference.audio import Audio
from careca.models import ModelStore
from careca.types import SAMPLE_RATE, SpeakerCountCandidate
from careca_diarizer.clustering import Clustering, Voices
from careca_diarizer.pyannote_engine import PyannoteEngine, Speech
from careca_diarizer.settings import DiarizerSettings
from careca_diarizer.stitching import Run, cut_pieces
from careca_diarizer.windows import FRAMES_PER_SECOND

SPEAKING = ((1, 3), (4, 6), (7, 9))
"""The start and end of each of three tracks, in seconds."""


def test_speakers_are_named_in_order_of_first_speech_and_each_has_its_own_voice(tmp_path: Path) -> None:
    runs = tuple(
        Run(track, round(start * FRAMES_PER_SECOND), round(end * FRAMES_PER_SECOND))
        for track, (start, end) in enumerate(SPEAKING)
    )
    pieces = cut_pieces(runs)
    each = np.eye(3, dtype=np.float32)
    labels = np.array([2, 0, 1])
    speech = Speech(
        runs, pieces, Voices(each[labels], np.full(3, 2.0), np.ones(3, dtype=bool), np.zeros(3, dtype=bool))
    )
    clustering = Clustering(labels, each[labels], (SpeakerCountCandidate(3, 0.5),), each)
    noise = np.random.default_rng(1).normal(0, 1000, 10 * SAMPLE_RATE).astype(np.int16)

    found = PyannoteEngine(DiarizerSettings(), ModelStore(tmp_path)).assemble(Audio(noise), speech, clustering)

    assert [turn.speaker for turn in found.turns] == ["SPEAKER_00", "SPEAKER_01", "SPEAKER_02"]
    assert [round(turn.start) for turn in found.turns] == [1, 4, 7]
    assert found.exclusive_turns == found.turns
    assert [(each.label, each.embedding.index(1.0)) for each in found.speakers] == [
        ("SPEAKER_00", 2),
        ("SPEAKER_01", 0),
        ("SPEAKER_02", 1),
    ]
    assert found.candidates == clustering.candidates
