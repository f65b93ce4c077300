"""How much the results of two devices differ, and the speech that `bench/gpu.sh` measures with."""

import time
from pathlib import Path

import numpy as np
import pytest

from bench.common.audio import write_wav
from bench.gpu.differences import speaker_difference, word_difference
from bench.gpu.memory import watched
from bench.gpu.speech import STREAMS, SpeechError, read, repeated, streams
from bench.gpu.speed import Memory
from careca.types import SAMPLE_RATE, Turn

MIB = 2**20


@pytest.mark.parametrize(
    ("reference", "other", "rate"),
    [
        ("It's late. Go home!", "it's late, go home", 0.0),
        ("one two three four", "one too three four", 0.25),
        ("one two three four", "one three four five", 0.5),
        ("one two", "", 1.0),
        ("", "", 0.0),
        ("olá, tudo bem", "olá tudo mal", 1 / 3),
    ],
)
def test_words_that_differ_count_over_those_of_the_reference(reference: str, other: str, rate: float) -> None:
    assert word_difference(reference, other) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("other", "rate"),
    [
        ([Turn(0.0, 4.0, "B"), Turn(4.0, 8.0, "A")], 0.0),
        ([Turn(0.0, 5.0, "A"), Turn(5.0, 8.0, "B")], 1 / 8),
        ([Turn(0.0, 4.0, "A")], 0.5),
        ([Turn(0.0, 8.0, "A")], 0.5),
        ([Turn(0.0, 4.0, "A"), Turn(4.0, 8.0, "B"), Turn(0.0, 2.0, "C")], 0.25),
        ([], 1.0),
    ],
)
def test_speaker_time_that_differs_does_not_depend_on_labels(other: list[Turn], rate: float) -> None:
    reference = [Turn(0.0, 4.0, "A"), Turn(4.0, 8.0, "B")]
    assert speaker_difference(reference, other, 10.0) == pytest.approx(rate)


def test_no_speech_on_either_side_is_no_difference() -> None:
    assert speaker_difference([], [], 10.0) == 0.0


def test_sixteen_streams_of_twenty_to_sixty_seconds_are_cut_out_of_little_speech() -> None:
    speech = np.arange(30 * SAMPLE_RATE, dtype=np.int64).astype(np.int16)
    pieces = streams(speech, 3600.0)
    assert len({piece.tobytes() for piece in pieces}) == STREAMS
    assert (len(pieces[0]), len(pieces[-1])) == (20 * SAMPLE_RATE, 60 * SAMPLE_RATE)
    assert len(repeated(speech, 90.0)) == 90 * SAMPLE_RATE


def test_a_folder_of_wav_files_is_read(tmp_path: Path) -> None:
    with pytest.raises(SpeechError, match="no WAV files"):
        read(tmp_path)
    write_wav(np.array([1, 2], dtype=np.int16), tmp_path / "a.wav")
    write_wav(np.array([3], dtype=np.int16), tmp_path / "b.wav")
    assert read(tmp_path).tolist() == [1, 2, 3]


def test_memory_is_that_of_the_engines_and_lower_than_their_peak() -> None:
    memory = Memory(before=100, loaded=200, peak=500, after=300, unloaded=120)
    assert memory.of_engines(memory.loaded) == 100
    assert memory.lower(memory.after) == pytest.approx(0.5)
    assert memory.lower(memory.unloaded) == pytest.approx(0.95)
    assert Memory(None, None, None, None, None).lower(None) is None


def test_the_peak_is_the_largest_sample_and_a_failed_sample_is_an_error() -> None:
    def fail() -> int:
        raise OSError("no driver")

    samples = iter([3 * MIB, 5 * MIB])
    with watched(lambda: next(samples, MIB)) as peak:
        while peak.bytes is None or peak.bytes < 5 * MIB:
            time.sleep(0.01)
    assert peak.bytes == 5 * MIB
    with pytest.raises(OSError, match="no driver"), watched(fail):
        pass
