"""Windows, tracks and pieces."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careca.types import SAMPLE_RATE
from careca_diarizer.segmentation import POWERSET
from careca_diarizer.stitching import Piece, Run, cut_pieces, stitch
from careca_diarizer.windows import (
    FRAMES_PER_SECOND,
    WINDOW_FRAMES,
    WINDOW_SAMPLES,
    LocalSpeakers,
    frame_sample,
    frame_seconds,
    frames_within,
    window_starts,
)

STEP = round(2 * FRAMES_PER_SECOND)

Activity = npt.NDArray[np.bool_]


def frames(seconds: float) -> int:
    return round(seconds * FRAMES_PER_SECOND)


def windows_over(truth: Sequence[Activity], orders: Iterable[Sequence[int]] | None = None) -> LocalSpeakers:
    """The windows of ``truth``, a row of booleans for each person; each window has its own order of speakers."""
    people = np.array([*truth, *[np.zeros_like(truth[0])] * (3 - len(truth))])
    starts = np.arange(0, people.shape[1] - WINDOW_FRAMES + 1, STEP)
    orders = orders or itertools.repeat((0, 1, 2))
    seen = [people[list(order), start : start + WINDOW_FRAMES].T for start, order in zip(starts, orders, strict=False)]
    return LocalSpeakers(starts, np.array(seen, dtype=np.bool_))


def speech(length: int, *spans: tuple[int, int]) -> Activity:
    active = np.zeros(length, dtype=np.bool_)
    for start, end in spans:
        active[start:end] = True
    return active


LENGTH = WINDOW_FRAMES + 10 * STEP


@given(samples=st.integers(1, 60 * SAMPLE_RATE), step=st.floats(0.5, 5.0))
def test_windows_cover_the_whole_recording_and_the_last_one_ends_with_it(samples: int, step: float) -> None:
    starts = window_starts(samples, step)

    assert starts[0] == 0
    assert np.all(np.diff(starts) > 0)
    assert np.all(np.diff(starts) <= frames(step))
    end = (starts[-1] * 270) + WINDOW_SAMPLES
    assert end >= samples
    assert len(starts) == 1 or end - samples < 270


def test_without_samples_there_are_no_windows() -> None:
    assert len(window_starts(0, 2.0)) == 0


@given(samples=st.integers(1, 100_000))
def test_frames_within_are_those_that_begin_before_the_end(samples: int) -> None:
    count = frames_within(samples)

    assert frame_sample(count - 1) < samples <= frame_sample(count)


def test_frames_follow_each_other_every_seventeen_milliseconds() -> None:
    assert frame_seconds(0) == 0
    assert frame_seconds(101) - frame_seconds(100) == pytest.approx(270 / 16_000)


def test_the_classes_are_no_speaker_each_speaker_and_each_pair_of_three() -> None:
    assert POWERSET.astype(int).tolist() == [
        [0, 0, 0],
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [1, 1, 0],
        [1, 0, 1],
        [0, 1, 1],
    ]


@given(st.lists(st.permutations((0, 1, 2)), min_size=11, max_size=11))
def test_a_speaker_stays_on_one_track_however_windows_number_them(orders: list[tuple[int, ...]]) -> None:
    alice = speech(LENGTH, (0, 700), (900, LENGTH))
    bob = speech(LENGTH, (600, 950))

    runs = stitch(windows_over([alice, bob], orders))

    of_track = defaultdict(list)
    for run in runs:
        of_track[run.track].append((run.start, run.end))
    assert sorted(of_track.values()) == [[(0, 700), (900, LENGTH)], [(600, 950)]]


def test_a_speaker_who_is_silent_for_a_whole_window_gets_a_new_track() -> None:
    runs = stitch(windows_over([speech(LENGTH, (0, 100), (LENGTH - 100, LENGTH - 50))]))

    assert len({run.track for run in runs}) == 2


def test_speech_in_a_minority_of_windows_is_omitted() -> None:
    alice = speech(LENGTH, (0, LENGTH))
    local = windows_over([alice])
    local.active[3, 10:50, 1] = True

    runs = stitch(local)

    assert [(run.start, run.end) for run in runs] == [(0, LENGTH)]


def test_silence_and_no_windows_have_no_runs() -> None:
    nothing = LocalSpeakers(np.zeros(0, dtype=np.int64), np.zeros((0, WINDOW_FRAMES, 3), dtype=np.bool_))

    assert stitch(nothing) == ()
    assert stitch(windows_over([speech(LENGTH)])) == ()
    assert cut_pieces(()) == ()


def test_many_tracks_share_few_lanes_and_stay_separate() -> None:
    length = 100 * WINDOW_FRAMES
    calls = [(start, start + 60) for start in range(0, length - 60, 2 * WINDOW_FRAMES)]

    runs = stitch(windows_over([speech(length, *calls)]))

    assert [(run.start, run.end) for run in runs] == calls
    assert len({run.track for run in runs}) == len(calls)


def test_pieces_have_about_three_seconds_and_cover_the_run() -> None:
    run = Run(track=0, start=100, end=100 + frames(10))

    pieces = cut_pieces([run])

    assert len(pieces) == 4
    assert all(piece.clean for piece in pieces)
    assert (pieces[0].start, pieces[-1].end) == (run.start, run.end)
    assert all(one.end == following.start for one, following in itertools.pairwise(pieces))


def test_a_run_a_little_longer_than_a_piece_is_not_cut() -> None:
    assert len(cut_pieces([Run(0, 0, frames(3.5))])) == 1


def test_pieces_are_cut_from_where_a_track_speaks_alone() -> None:
    pieces = cut_pieces([Run(0, 0, 300), Run(1, 200, 400)])

    assert pieces == (Piece(0, ((0, 200),), clean=True), Piece(1, ((300, 400),), clean=True))


def test_a_track_that_never_speaks_alone_has_pieces_that_are_not_clean() -> None:
    pieces = cut_pieces([Run(0, 0, 300), Run(1, 100, 150)])

    assert [piece for piece in pieces if piece.track == 1] == [Piece(1, ((100, 150),), clean=False)]


def test_a_very_short_span_has_no_piece() -> None:
    assert cut_pieces([Run(0, 0, frames(0.1))]) == ()


def test_short_spans_of_a_track_are_combined() -> None:
    spans = [(0, 60), (100, 150), (200, 240)]

    pieces = cut_pieces([Run(0, *span) for span in spans])

    assert [piece for piece in pieces if not piece.part] == [Piece(0, tuple(spans), clean=True)]


def test_all_but_the_longest_of_combined_spans_are_also_pieces_of_their_own() -> None:
    spans = [(0, 40), (100, 160), (200, 240)]

    pieces = cut_pieces([Run(0, *span) for span in spans])

    assert pieces == (
        Piece(0, ((0, 40),), clean=True, part=True),
        Piece(0, tuple(spans), clean=True),
        Piece(0, ((200, 240),), clean=True, part=True),
    )
    assert [(piece.start, piece.end) for piece in pieces] == spans


def test_of_equally_long_combined_spans_the_first_represents_the_piece() -> None:
    pieces = cut_pieces([Run(0, 0, 60), Run(0, 100, 160)])

    assert [(piece.start, piece.part) for piece in pieces] == [(0, False), (100, True)]


def test_spans_that_are_long_enough_are_not_combined() -> None:
    spans = [(0, frames(1.6)), (frames(2), frames(3.6))]

    assert [piece.spans for piece in cut_pieces([Run(0, *span) for span in spans])] == [(span,) for span in spans]


def test_distant_spans_are_not_combined() -> None:
    pieces = cut_pieces([Run(0, 0, 60), Run(0, 60 + frames(6), 120 + frames(6))])

    assert [piece.part for piece in pieces] == [False, False]


def test_combined_spans_are_not_longer_than_the_longest_piece() -> None:
    pieces = cut_pieces([Run(0, start, start + frames(1.4)) for start in range(0, frames(20), frames(2))])

    assert len([piece for piece in pieces if not piece.part]) == 5
    assert all(piece.seconds <= 3.0 for piece in pieces)
