"""Windows of live audio, with networks that follow a script: turns, pieces of speech, and whose they are."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from structlog.testing import capture_logs

from careca.errors import PreconditionFailed
from careca.inference.audio import Audio
from careca.inference.engine import Batch, complete
from careca.models import ModelStore
from careca.types import (
    SAMPLE_RATE,
    DiarizationOptions,
    DiarizedWindow,
    Turn,
    VoicePiece,
    VoicesToCluster,
    WindowToDiarize,
)
from careca_diarizer import pyannote_engine
from careca_diarizer.networks import EMBEDDING_MODEL
from careca_diarizer.pyannote_engine import PyannoteEngine
from careca_diarizer.runtime import EMBEDDING_SIZE, Networks
from careca_diarizer.segmentation import POWERSET
from careca_diarizer.settings import DiarizerSettings
from careca_diarizer.windows import FRAMES_PER_SECOND, WINDOW_FRAMES

NOTHING = Audio(np.zeros(0, dtype=np.int16))
Speaking = tuple[int, float, float]
"""A local speaker of the segmentation, with start and end in seconds."""


class ScriptedNetwork:
    """Gives the same answer for each input."""

    def __init__(self, answer: npt.NDArray[np.float32]) -> None:
        self._answer = answer

    def __call__(self, inputs: Any) -> npt.NDArray[np.float32]:
        return np.stack([self._answer] * len(inputs))

    def release(self) -> None:
        pass


class LevelIsVoice:
    """The embedding of a cut is the axis of its mean level, so that speech of each level is a voice of its own."""

    def __call__(self, inputs: Any) -> npt.NDArray[np.float32]:
        return 3 * np.eye(EMBEDDING_SIZE, dtype=np.float32)[np.rint(inputs).astype(int)]

    def release(self) -> None:
        pass


def segmentation_of(speaking: Iterable[Speaking]) -> npt.NDArray[np.float32]:
    """The log probabilities of the classes: shape (frames, 7)."""
    active = np.zeros((WINDOW_FRAMES, 3), dtype=bool)
    for speaker, start, end in speaking:
        active[round(start * FRAMES_PER_SECOND) : round(end * FRAMES_PER_SECOND), speaker] = True
    return (POWERSET[None] == active[:, None]).all(axis=-1).astype(np.float32)


def engine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, speaking: Iterable[Speaking] = (), *, load: bool = True
) -> PyannoteEngine:
    """An engine whose networks hear ``speaking`` in every window."""
    networks = Networks(
        segmentation=ScriptedNetwork(segmentation_of(speaking)),
        features=lambda cuts, _length: np.array([np.abs(cut).mean() * 32.768 for cut in cuts]),
        embedding=LevelIsVoice(),
    )
    monkeypatch.setattr(pyannote_engine, "load_networks", lambda _store, _device: networks)
    made = PyannoteEngine(DiarizerSettings(device="cpu"), ModelStore(folder))
    if load:
        made.load()
    return made


def window(seconds: float = 10.0, *levels: tuple[float, float, int]) -> Audio:
    """A window whose samples have the given levels in thousands: start, end and level."""
    samples = np.zeros(round(seconds * SAMPLE_RATE), dtype=np.int16)
    for start, end, level in levels:
        samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] = 1000 * level
    return Audio(samples)


def diarize(engine: PyannoteEngine, audio: Audio) -> DiarizedWindow:
    return complete(engine.infer(audio, WindowToDiarize()))


def cluster(
    engine: PyannoteEngine, pieces: Sequence[VoicePiece], options: DiarizationOptions | None = None
) -> tuple[int, ...]:
    asked = VoicesToCluster(tuple(pieces), options or DiarizationOptions())
    return complete(engine.infer(NOTHING, asked)).speakers


def spoken(turns: Iterable[Turn]) -> list[tuple[float, float, str]]:
    return [(round(turn.start, 1), round(turn.end, 1), turn.speaker) for turn in turns]


def voice(piece: VoicePiece) -> int:
    """The axis of its embedding."""
    return piece.embedding.index(1.0)


def piece_of(axis: int, **others: Any) -> VoicePiece:
    embedding = np.eye(8)[axis]
    return VoicePiece(**({"embedding": tuple(embedding.tolist()), "speech": 2.0, "alone": True} | others))


def test_each_turn_has_the_number_of_its_track_and_so_have_its_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hearing = engine(tmp_path, monkeypatch, [(0, 1, 3), (2, 4, 6.5)])

    found = diarize(hearing, window(10, (0, 3.5, 5), (3.5, 10, 9)))

    assert spoken(found.turns) == [(1, 3, "0"), (4, 6.5, "1")]
    assert [(round(each.start, 1), round(each.end, 1), each.speaker) for each in found.pieces] == spoken(found.turns)
    assert [voice(each) for each in found.pieces] == [5, 9]
    assert [each.speech for each in found.pieces] == pytest.approx([2.0, 2.5], abs=0.05)
    assert all(each.alone and not each.part for each in found.pieces)


def test_the_embeddings_are_of_unit_length_and_name_the_model_of_a_speaker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = diarize(engine(tmp_path, monkeypatch, [(0, 1, 3)]), window(10, (0, 10, 5)))

    assert [np.linalg.norm(each.embedding) for each in found.pieces] == [1.0]
    assert found.embedding_model == ModelStore(tmp_path).digest_of(EMBEDDING_MODEL)


def test_turns_overlap_if_people_talk_at_once_and_who_never_talks_alone_has_no_clean_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = diarize(engine(tmp_path, monkeypatch, [(0, 1, 6), (1, 3, 5)]), window(10, (0, 10, 5)))

    assert spoken(found.turns) == [(1, 6, "0"), (3, 5, "1")]
    assert {(each.speaker, each.alone) for each in found.pieces} == {("0", True), ("1", False)}


def test_short_spans_are_one_piece_from_the_first_to_the_last_of_them_and_all_but_the_longest_are_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = diarize(engine(tmp_path, monkeypatch, [(0, 1, 1.4), (0, 3, 4.2)]), window(10, (0, 10, 5)))

    assert spoken(found.turns) == [(1, 1.4, "0"), (3, 4.2, "0")]
    whole, part = sorted(found.pieces, key=lambda each: each.part)
    assert (round(whole.start, 1), round(whole.end, 1), whole.part) == (1, 4.2, False)
    assert whole.speech == pytest.approx(1.6, abs=0.05)
    assert (round(part.start, 1), round(part.end, 1), part.part) == (1, 1.4, True)
    assert part.speech == pytest.approx(0.4, abs=0.05)


def test_pauses_that_nobody_notices_do_not_end_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = diarize(engine(tmp_path, monkeypatch, [(0, 1, 3), (0, 3.3, 5)]), window(10, (0, 10, 5)))

    assert spoken(found.turns) == [(1, 5, "0")]


def test_a_track_that_is_too_short_for_a_piece_has_no_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its two sounds would be a turn if they were joined."""
    speaking = [(0, 1, 3), (1, 5, 5.1), (1, 5.3, 5.4)]

    found = diarize(engine(tmp_path, monkeypatch, speaking), window(10, (0, 10, 5)))

    assert spoken(found.turns) == [(1, 3, "0")]


def test_nothing_lasts_longer_than_a_short_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = diarize(engine(tmp_path, monkeypatch, [(0, 1, 10)]), window(4.2, (0, 10, 5)))

    assert spoken(found.turns) == [(1, 4.2, "0")]
    assert found.turns[-1].end <= 4.2
    assert max(each.end for each in found.pieces) <= 4.2


@pytest.mark.parametrize("seconds", [0.0, 10.0])
def test_a_window_without_speech_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    found = diarize(engine(tmp_path, monkeypatch), window(seconds))

    assert (found.turns, found.pieces) == ((), ())


def test_clipped_windows_are_restored_without_a_line_in_the_log_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is restored is quieter."""
    loud = window(10, (0, 10, 12)).samples.copy()
    loud[: SAMPLE_RATE // 10] = 32_767

    with capture_logs() as logs:
        found = diarize(engine(tmp_path, monkeypatch, [(0, 1, 3)]), Audio(loud))

    assert [voice(each) for each in found.pieces] == [3]
    assert [line["log_level"] for line in logs] == ["debug"]


def test_a_window_before_loading_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PreconditionFailed) as refusal:
        diarize(engine(tmp_path, monkeypatch, load=False), window())

    assert refusal.value.reason == "MODEL_NOT_LOADED"


def test_pieces_of_one_voice_have_one_speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with capture_logs() as logs:
        first, second, third, fourth = cluster(engine(tmp_path, monkeypatch), [piece_of(axis) for axis in (0, 3, 0, 3)])

    assert (first, second) == (third, fourth)
    assert {first, second} == {0, 1}
    assert [line["log_level"] for line in logs] == ["debug"]


def test_voices_are_clustered_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = engine(tmp_path, monkeypatch).infer(NOTHING, VoicesToCluster((piece_of(0), piece_of(1))))

    asked = next(work)

    assert isinstance(asked, Batch)
    with pytest.raises(StopIteration):
        work.send(asked.compute(asked.items))


def test_no_pieces_have_no_speakers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster(engine(tmp_path, monkeypatch), []) == ()


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (DiarizationOptions(), 3),
        (DiarizationOptions(speaker_count=2), 2),
        (DiarizationOptions(max_speaker_count=1), 1),
        (DiarizationOptions(min_speaker_count=4), 4),
    ],
)
def test_the_number_of_speakers_is_within_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: DiarizationOptions, count: int
) -> None:
    pieces = [piece_of(axis) for axis in (0, 1, 2) * 4]

    assert len(set(cluster(engine(tmp_path, monkeypatch), pieces, options))) == count


def test_a_part_joins_the_nearest_voice_and_is_none_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    between = tuple((np.eye(8)[1] * 0.5 + np.eye(8)[5] * 0.75**0.5).tolist())
    pieces = [*(piece_of(axis) for axis in (0, 1) * 4), *[piece_of(5, embedding=between, part=True)] * 4]

    found = cluster(engine(tmp_path, monkeypatch), pieces)

    assert set(found) == {0, 1}
    assert set(found[8:]) == {found[1]}


def test_speech_of_one_person_shapes_the_voices_and_speech_of_several_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [*(piece_of(axis) for axis in (0, 1) * 4), *[piece_of(5, alone=False)] * 4]

    assert set(cluster(engine(tmp_path, monkeypatch), pieces)) == {0, 1}


def test_long_speech_shapes_the_voices_and_short_speech_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [*(piece_of(axis) for axis in (0, 1) * 4), *[piece_of(5, speech=0.3)] * 4]

    assert set(cluster(engine(tmp_path, monkeypatch), pieces)) == {0, 1}


def test_parts_whose_whole_piece_is_left_out_are_voices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [piece_of(axis, part=True) for axis in (0, 1) * 4]

    assert cluster(engine(tmp_path, monkeypatch), pieces) in ((0, 1) * 4, (1, 0) * 4)
