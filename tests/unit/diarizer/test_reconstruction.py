"""Turns from runs of speech and the speakers of their pieces."""

from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from careca.types import Turn
from careca_diarizer.clustering import Clustering
from careca_diarizer.reconstruction import reconstruct
from careca_diarizer.stitching import Piece, Run, cut_pieces
from careca_diarizer.windows import FRAMES_PER_SECOND, frame_seconds

DURATION = 60.0


def frame(seconds: float) -> int:
    return round(seconds * FRAMES_PER_SECOND)


def run(track: int, start: float, end: float) -> Run:
    return Run(track, frame(start), frame(end))


def voices(*speakers: int) -> Clustering:
    """A clustering in which each piece certainly belongs to its speaker."""
    labels = np.array(speakers)
    each = np.eye(labels.max() + 1, dtype=np.float32)
    return Clustering(labels, each[labels], (), each)


def turns_of(
    runs: Sequence[Run], *speakers: int, pieces: Sequence[Piece] | None = None, duration: float = DURATION
) -> tuple[Turn, ...]:
    return reconstruct(runs, pieces or cut_pieces(runs), voices(*speakers), duration)


def spoken(turns: Iterable[Turn]) -> list[tuple[float, float, str]]:
    return [(round(turn.start, 1), round(turn.end, 1), turn.speaker) for turn in turns]


def test_each_run_is_a_turn_of_the_speaker_of_its_piece() -> None:
    turns = turns_of([run(0, 1, 3), run(1, 4, 6), run(2, 7, 9)], 0, 1, 0)

    assert spoken(turns) == [(1, 3, "0"), (4, 6, "1"), (7, 9, "0")]


def test_without_runs_there_are_no_turns() -> None:
    nobody = np.zeros((0, 0), dtype=np.float32)

    assert reconstruct((), (), Clustering(np.zeros(0, dtype=int), nobody, (), nobody), 1.0) == ()


def test_speakers_have_the_numbers_of_the_clustering() -> None:
    turns = turns_of([run(0, 1, 3), run(1, 4, 6), run(2, 7, 9)], 2, 0, 1)

    assert spoken(turns) == [(1, 3, "2"), (4, 6, "0"), (7, 9, "1")]


def test_a_change_of_voice_within_a_run_is_a_change_of_turn() -> None:
    turns = turns_of([run(0, 0, 6)], 0, 1)

    assert spoken(turns) == [(0, 3, "0"), (3, 6, "1")]


def test_a_run_without_a_piece_has_the_voice_of_the_nearest_piece_of_its_track() -> None:
    runs = [run(0, 0, 2), run(0, 2.8, 2.9 + 0.3), run(0, 8, 10), run(1, 20, 22)]
    pieces = [
        Piece(0, ((runs[0].start, runs[0].end),), clean=True),
        Piece(0, ((runs[2].start, runs[2].end),), clean=True),
    ]

    turns = turns_of(runs, 0, 1, pieces=pieces)

    assert spoken(turns) == [(0, 2, "0"), (2.8, 3.2, "0"), (8, 10, "1")]


def test_each_span_of_a_piece_of_several_has_its_own_voice() -> None:
    runs = [run(0, 0, 1), run(0, 1.6, 2.4), run(0, 3, 3.8)]

    turns = turns_of(runs, 0, 1, 0)

    assert spoken(turns) == [(0, 1, "0"), (1.6, 2.4, "1"), (3, 3.8, "0")]


def test_turns_overlap_where_two_people_talk_at_once() -> None:
    turns = turns_of([run(0, 0, 3), run(1, 2, 5)], 0, 1)

    assert spoken(turns) == [(0, 3, "0"), (2, 5, "1")]


def test_two_tracks_at_the_same_time_are_never_the_same_speaker() -> None:
    runs = [run(0, 0, 6), run(1, 2, 3)]
    pieces = [
        Piece(0, ((runs[0].start, runs[0].end),), clean=True),
        Piece(1, ((runs[1].start, runs[1].end),), clean=False),
    ]
    alike = np.array([[0.9, 0.1], [0.6, 0.5]], dtype=np.float32)

    turns = reconstruct(runs, pieces, Clustering(np.array([0, 0]), alike, (), np.eye(2, dtype=np.float32)), DURATION)

    assert spoken(turns) == [(0, 6, "0"), (2, 3, "1")]


def test_with_only_one_speaker_two_tracks_at_the_same_time_are_that_speaker() -> None:
    assert spoken(turns_of([run(0, 0, 6), run(1, 2, 3)], 0, 0, 0)) == [(0, 6, "0")]


def test_a_short_pause_does_not_end_a_turn_and_a_long_one_does() -> None:
    assert spoken(turns_of([run(0, 0, 2), run(0, 2.3, 4)], 0, 0)) == [(0, 4, "0")]
    assert spoken(turns_of([run(0, 0, 2), run(0, 2.6, 4)], 0, 0)) == [(0, 2, "0"), (2.6, 4, "0")]


def test_a_very_short_stretch_is_not_a_turn() -> None:
    runs = [run(0, 0, 2), Run(0, 600, 606)]

    assert spoken(turns_of(runs, 0)) == [(0, 2, "0")]


def test_no_turn_goes_beyond_the_end_of_the_recording() -> None:
    assert turns_of([run(0, 0, 3)], 0, duration=2.5)[-1].end == 2.5


def test_times_are_those_of_the_frames() -> None:
    (turn,) = turns_of([Run(0, 100, 200)], 0)

    assert (turn.start, turn.end) == (frame_seconds(100), frame_seconds(200))


@pytest.mark.parametrize("speakers", [2, 3, 4])
def test_every_speaker_who_has_a_piece_speaks(speakers: int) -> None:
    runs = [run(track, track * 2.0, track * 2.0 + 1.9) for track in range(20)]

    turns = turns_of(runs, *[min(track, speakers - 1) for track in range(20)])

    assert len({turn.speaker for turn in turns}) == speakers
