"""Reconstruction: builds turns from runs of speech and the speakers of their pieces. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import attrgetter

import numpy as np

from careca.types import Turn
from careca_diarizer.clustering import Clustering
from careca_diarizer.stitching import Piece, Run
from careca_diarizer.windows import frame_seconds

_LONGEST_GAP_SECONDS = 0.4
"""Shorter pauses do not end a turn, because people do not perceive them as pauses."""

_SHORTEST_TURN_SECONDS = 0.15
"""Shorter turns are artefacts."""

_ORDER = attrgetter("start", "end", "speaker")


@dataclass(frozen=True, slots=True)
class _Span:
    """A part of a run with the voice of ``piece``, from frame ``start`` up to, but not including, ``end``."""

    start: int
    end: int
    piece: int


def reconstruct(
    runs: Sequence[Run], pieces: Sequence[Piece], clustering: Clustering, duration: float
) -> tuple[Turn, ...]:
    """Returns turns by start within ``duration`` seconds; they overlap if people talk at the same time.

    Speakers have the numbers of the clustering: ``0``, ``1`` ... At each moment, the voice of a run is that of the
    nearest piece of its track. Tracks that speak at the same time get different speakers, if there are enough. A track
    that is too short to have a piece is omitted.
    """
    return _joined(
        Turn(frame_seconds(start), min(frame_seconds(end), duration), str(speaker))
        for start, end, together in _moments(_spans(runs, pieces))
        for speaker in _speakers(together, clustering)
    )


def turns_by_track(runs: Iterable[Run], duration: float) -> tuple[Turn, ...]:
    """Returns turns by start within ``duration`` seconds, before it is known whose they are.

    Speakers have the numbers of their tracks.
    """
    return _joined(
        Turn(frame_seconds(run.start), min(frame_seconds(run.end), duration), str(run.track)) for run in runs
    )


def _joined(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """Returns the turns by start. Turns of one speaker with a short pause are joined; short turns are dropped."""
    of_speaker: dict[str, list[Turn]] = defaultdict(list)
    for turn in sorted(turns, key=_ORDER):
        own = of_speaker[turn.speaker]
        if own and turn.start - own[-1].end <= _LONGEST_GAP_SECONDS:
            own[-1] = replace(own[-1], end=max(own[-1].end, turn.end))
        else:
            own.append(turn)
    long_enough = (
        turn for own in of_speaker.values() for turn in own if turn.end - turn.start >= _SHORTEST_TURN_SECONDS
    )
    return tuple(sorted(long_enough, key=_ORDER))


def _spans(runs: Iterable[Run], pieces: Sequence[Piece]) -> Iterator[_Span]:
    """Yields the runs, cut halfway between adjacent pieces of their track."""
    of_track: dict[int, list[int]] = defaultdict(list)
    for index, piece in enumerate(pieces):
        of_track[piece.track].append(index)
    halfway = {
        track: [(pieces[one].end + pieces[following].start) // 2 for one, following in pairwise(own)]
        for track, own in of_track.items()
    }
    for run in runs:
        if own := of_track.get(run.track):
            first = bisect_right(halfway[run.track], run.start)
            last = bisect_left(halfway[run.track], run.end, lo=first)
            edges = [run.start, *halfway[run.track][first:last], run.end]
            yield from (_Span(*edge, index) for edge, index in zip(pairwise(edges), own[first:], strict=False))


def _moments(spans: Iterable[_Span]) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Yields stretches with the same active pieces: start, end (exclusive) and the pieces."""
    edges = sorted(edge for span in spans for edge in ((span.start, True, span.piece), (span.end, False, span.piece)))
    speaking: list[int] = []
    for (frame, begins, piece), (following, _, _) in pairwise(edges):
        speaking.append(piece) if begins else speaking.remove(piece)
        if speaking and frame < following:
            yield frame, following, tuple(sorted(speaking))


def _speakers(pieces: tuple[int, ...], clustering: Clustering) -> Iterable[int]:
    """Returns the speakers of ``pieces`` that are active together: different ones, with the best total similarity."""
    if len(pieces) == 1:
        return (int(clustering.labels[pieces[0]]),)
    from scipy.optimize import linear_sum_assignment

    _, speakers = linear_sum_assignment(clustering.similarity[np.array(pieces)], maximize=True)
    return speakers.tolist()  # type: ignore[no-any-return]
