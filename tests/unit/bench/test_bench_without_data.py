"""What the benchmarks do in a clone that has nothing beside it: there is the sample of pyannote.audio's wheel alone."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.chaos import __main__ as chaos
from bench.common import audio, dataset
from bench.common.dataset import DatasetError
from bench.common.harness import cleanly
from bench.diarization import __main__ as diarize
from bench.languages import __main__ as bench_languages
from bench.load import real_models as load_real
from bench.robustness import __main__ as robustness
from bench.system import __main__ as run


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is named, and nothing lies beside the repository."""
    monkeypatch.delenv("CARECA_DATA", raising=False)
    monkeypatch.setattr(dataset, "REPOSITORY", tmp_path / "alone" / "careca")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return lambda *arguments: monkeypatch.setattr(sys, "argv", ["bench", *arguments])


def test_the_sample_stands_in_with_who_says_what_and_when() -> None:
    (recording,) = found = dataset.find()

    assert dataset.is_sample(found)
    assert recording.path.name == "sample.wav"
    assert recording.turns
    assert len({turn.speaker for turn in recording.turns}) == 2
    assert {each.speaker for each in recording.utterances or ()} == {"Diane", "Sheila"}
    assert dataset.speech() == [recording.path]


def test_a_folder_that_is_named_is_the_one_that_is_used_or_complained_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DatasetError, match=tmp_path.name):
        dataset.find(tmp_path)
    monkeypatch.setenv("CARECA_DATA", str(tmp_path))
    with pytest.raises(DatasetError, match="CARECA_DATA"):
        dataset.speech()

    (tmp_path / "phone").mkdir()
    audio.write_flac(np.zeros(16_000, np.int16), tmp_path / "phone" / "call.flac")

    assert dataset.speech() == [tmp_path / "phone" / "call.flac"]
    assert not dataset.is_sample(dataset.find())


def test_a_folder_beside_the_repository_needs_no_name(tmp_path: Path) -> None:
    beside = tmp_path / "alone" / "shared" / "data" / "dev" / "fleurs"
    beside.mkdir(parents=True)
    audio.write_flac(np.zeros(16_000, np.int16), beside / "fleurs-pt-000.flac")

    (recording,) = dataset.find()

    assert recording.language == "pt"
    assert dataset.speech() == [recording.path], "read speech is speech too"


def test_without_the_wheel_it_is_said_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dataset.importlib.util, "find_spec", lambda _name: None)

    assert cleanly(lambda: len(dataset.find())) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert "make setup" in line


def test_pieces_of_one_recording_are_all_different() -> None:
    pieces = audio.pieces(dataset.speech(), [15.0] * 20)

    assert {len(piece) for piece in pieces} == {15 * 16_000}
    assert not any(np.array_equal(one, other) for one, other in itertools.combinations(pieces, 2))
    with pytest.raises(ValueError, match="31 s are to be cut out of 30 s"):
        audio.pieces(dataset.speech(), [31.0])


def test_chaos_and_load_make_their_clips_of_the_sample(tmp_path: Path) -> None:
    for name, paths in (("chaos", lambda folder: chaos.make_clips(folder, 100, 1)), ("load", load_real._cut)):
        (tmp_path / name).mkdir()
        clips = [audio.decode(path).tobytes() for path in paths(tmp_path / name)]
        assert len(set(clips)) == len(clips) >= 24, name


def test_tasks_on_different_recordings_are_on_pieces_of_the_sample(tmp_path: Path) -> None:
    (recording,) = dataset.speech()

    clips = [audio.decode(path) for path in run._of_many_lengths(recording, 20, tmp_path)]

    assert len({len(clip) for clip in clips}) == len(clips) == 20


def test_conversations_are_not_made_of_two_voices_and_it_is_said_in_one_line_what_to_set(
    called: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called("mixtures")
    monkeypatch.setattr(diarize, "load_engine", lambda: pytest.fail("no model is loaded for nothing"))

    assert cleanly(diarize.main) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cannot measure: the part `mixtures` needs recordings")
    assert "CARECA_DATA" in line


def test_what_is_measured_on_the_sample_is_kept_apart_and_said_to_be(
    called: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    published: list[tuple[Path, bool]] = []
    monkeypatch.setattr(run, "SAMPLE", tmp_path / "sample.json")
    monkeypatch.setattr(run, "publish", lambda _part, path, renew_document: published.append((path, renew_document)))
    monkeypatch.setattr(run, "PARTS", {"speed": lambda recordings, quick: FakePart()})
    called("speed")

    assert cleanly(run.main) == 0

    assert published == [(tmp_path / "sample.json", False)]
    first = capsys.readouterr().err.splitlines()[0]
    assert "CARECA_DATA" in first
    assert "Left out: read speech" in first


class FakePart:
    """A part that took no time."""

    class run:  # noqa: N801
        wall_seconds = 0.0


@pytest.mark.parametrize("program", [run, diarize, robustness, bench_languages])
def test_a_folder_without_recordings_ends_a_benchmark_with_one_line(
    program: object, called: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    called("--data", str(tmp_path))

    assert cleanly(program.main) == 1  # type: ignore[attr-defined]

    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"cannot measure: no recordings in the folders of {tmp_path}; set CARECA_DATA or --data"
