"""The recordings that the benchmark reads and those that it makes."""

import wave
from pathlib import Path

import numpy as np
import pytest

from bench.common import audio, dataset
from careca.types import Turn, Utterance


def tone(seconds: float, amplitude: int) -> np.ndarray:
    return np.full(int(16_000 * seconds), amplitude, dtype=np.int16)


class TestDataset:
    def test_rttm_gives_turns_and_leaves_other_kinds_of_line_out(self) -> None:
        text = (
            "SPKR-INFO call 1 <NA> <NA> <NA> unknown ann <NA> <NA>\nSPEAKER call 1 0.5 2.25 <NA> <NA> ann <NA> <NA>\n"
        )

        assert dataset.parse_rttm(text) == (Turn(0.5, 2.75, "ann"),)

    def test_stm_gives_utterances_without_comments_and_labels(self) -> None:
        text = ";; comment\ncall 1 ann 0.5 2.75 <o,f0,female> Good day.\ncall 1 bob 3 4 Oh, <laughs> hello.\n"

        assert dataset.parse_stm(text) == (
            Utterance(0.5, 2.75, "Good day.", "ann"),
            Utterance(3.0, 4.0, "Oh, <laughs> hello.", "bob"),
        )

    def test_truth_that_does_not_exist_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "phone").mkdir()
        (tmp_path / "phone" / "call.flac").touch()
        (tmp_path / "phone" / "call.rttm").write_text("SPEAKER call 1 0 1 <NA> <NA> ann <NA> <NA>\n")

        (recording,) = dataset.load(tmp_path)

        assert recording.turns == (Turn(0.0, 1.0, "ann"),)
        assert recording.utterances is None
        assert recording.text is None
        assert recording.language == "en"

    def test_read_speech_has_its_language_in_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "fleurs").mkdir()
        (tmp_path / "fleurs" / "fleurs-pt-003.ogg").touch()

        (recording,) = dataset.load(tmp_path)

        assert recording.language == "pt"
        assert dataset.read_speech([recording]) == [recording]
        assert dataset.conversations([recording]) == []

    def test_a_folder_without_recordings_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        with pytest.raises(dataset.DatasetError, match=tmp_path.name):
            dataset.load(tmp_path)

    def test_a_spread_takes_from_each_folder_in_turn(self, tmp_path: Path) -> None:
        for name, size in (("ami/a", 1), ("ami/b", 2), ("ami/c", 3), ("mix/d", 9)):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).with_suffix(".flac").write_bytes(bytes(size))
        recordings = dataset.load(tmp_path)

        assert [each.name for each in dataset.spread(recordings, 3)] == ["a", "d", "b"]
        assert [each.name for each in dataset.spread(recordings, 9)] == ["a", "d", "b", "c"]

    def test_the_folder_of_recordings_is_the_one_that_the_environment_names(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CARECA_DATA", str(tmp_path))

        assert dataset.default_folder() == tmp_path


class TestAudio:
    def test_flac_gives_the_samples_back_unchanged(self, tmp_path: Path) -> None:
        samples = np.random.default_rng(0).integers(-30_000, 30_000, 70_000, dtype=np.int16)

        audio.write_flac(samples, tmp_path / "noise.flac")

        np.testing.assert_array_equal(audio.decode(tmp_path / "noise.flac"), samples)

    def test_another_comment_is_another_file_with_the_same_audio(self, tmp_path: Path) -> None:
        one, other = tmp_path / "one.flac", tmp_path / "other.flac"

        audio.write_flac(tone(1, 100), one, comment="one")
        audio.write_flac(tone(1, 100), other, comment="other")

        assert one.read_bytes() != other.read_bytes()
        np.testing.assert_array_equal(audio.decode(one), audio.decode(other))

    def test_clips_are_joined_in_order_and_begun_again_until_it_is_long_enough(self, tmp_path: Path) -> None:
        for number in (1, 2):
            audio.write_flac(tone(1, number), tmp_path / f"{number}.flac")

        joined = audio.join([tmp_path / "1.flac", tmp_path / "2.flac"], 2.5)

        np.testing.assert_array_equal(joined, np.concatenate([tone(1, 1), tone(1, 2), tone(0.5, 1)]))

    def test_wav_gives_the_samples_back_unchanged(self, tmp_path: Path) -> None:
        samples = np.random.default_rng(0).integers(-30_000, 30_000, 70_000, dtype=np.int16)

        audio.write_wav(samples, tmp_path / "noise.wav")

        np.testing.assert_array_equal(audio.decode(tmp_path / "noise.wav"), samples)

    def test_silence_is_a_wav_file_of_the_size_asked_for(self, tmp_path: Path) -> None:
        path = tmp_path / "silence.wav"

        audio.write_silence(path, 1_000_000)

        assert path.stat().st_size == 1_000_000
        with wave.open(str(path)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
            assert file.getnframes() == (1_000_000 - 44) // 2
