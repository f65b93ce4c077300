"""Reconstruction: from runs of speech, and whose voice their pieces are, to turns. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
from scipy.optimize import linear_sum_assignment

from careca.types import Turn
from careca_diarizer.clustering import Clustering
from careca_diarizer.stitching import Piece, Run
from careca_diarizer.windows import frame_seconds

_LONGEST_GAP_SECONDS = 0.4
"""A pause up to this long does not end a turn: people do not hear it as one."""

_SHORTEST_TURN_SECONDS = 0.15
"""What is shorter is an artefact and no speech."""


@dataclass(frozen=True, slots=True)
class _Span:
    """A part of a run whose voice is that of ``piece``, from frame ``start`` up to and without frame ``end``."""

    start: int
    end: int
    piece: int


def reconstruct(
    runs: Sequence[Run], pieces: Sequence[Piece], clustering: Clustering, duration: float
) -> tuple[Turn, ...]:
    """Turns by start within ``duration`` seconds; they overlap where people talk at once.

    Each moment of a run is spoken by the voice of the nearest piece of its track; tracks at the same time have different
    voices as far as there are enough. A track too short to have a piece is left out.
    """
    spoken: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for start, end, together in _moments(_spans(runs, pieces)):
        for speaker in _speakers(together, clustering):
            spoken[speaker].append((frame_seconds(start), min(frame_seconds(end), duration)))
    turns = [
        Turn(start, end, str(speaker))
        for speaker, times in spoken.items()
        for start, end in _join(times)
        if end - start >= _SHORTEST_TURN_SECONDS
    ]
    return name_speakers(turns)


def name_speakers(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """The turns by start, their speakers named ``SPEAKER_00``, ``SPEAKER_01`` ... in order of first speech."""
    ordered = sorted(turns, key=attrgetter("start", "end", "speaker"))
    names: dict[str, str] = {}
    for turn in ordered:
        names.setdefault(turn.speaker, f"SPEAKER_{len(names):02d}")
    return tuple(replace(turn, speaker=names[turn.speaker]) for turn in ordered)


def exclusive_turns(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """The turns by start without overlap: who began first keeps the floor; of two who begin together, who goes on longer.

    Who only speaks while another one has the floor is left out.
    """
    exclusive: list[Turn] = []
    taken_until = 0.0
    for turn in sorted(turns, key=lambda turn: (turn.start, -turn.end, turn.speaker)):
        if turn.end > taken_until:
            exclusive.append(replace(turn, start=max(turn.start, taken_until)))
            taken_until = turn.end
    return tuple(exclusive)


def _spans(runs: Iterable[Run], pieces: Sequence[Piece]) -> Iterator[_Span]:
    """The runs, cut halfway between neighbouring pieces of their track."""
    of_track: dict[int, list[int]] = defaultdict(list)
    for index, piece in enumerate(pieces):
        of_track[piece.track].append(index)
    for run in runs:
        own = of_track.get(run.track, [])
        halfway = [(pieces[one].end + pieces[next_one].start) // 2 for one, next_one in zip(own, own[1:], strict=False)]
        for index, start, end in zip(own, [run.start, *halfway], [*halfway, run.end], strict=True) if own else ():
            if max(start, run.start) < min(end, run.end):
                yield _Span(max(start, run.start), min(end, run.end), index)


def _moments(spans: Iterable[_Span]) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Stretches in which the same pieces' voices speak: from, up to and without, and which pieces."""
    edges = sorted((edge for span in spans for edge in ((span.start, True, span.piece), (span.end, False, span.piece))))
    speaking: list[int] = []
    for (frame, begins, piece), (following, _, _) in zip(edges, edges[1:], strict=False):
        speaking.append(piece) if begins else speaking.remove(piece)
        if speaking and frame < following:
            yield frame, following, tuple(sorted(speaking))


def _speakers(pieces: tuple[int, ...], clustering: Clustering) -> Iterable[int]:
    """Who speaks when the voices of ``pieces`` sound at once: each another one, such that they fit best together."""
    if len(pieces) == 1:
        return (int(clustering.labels[pieces[0]]),)
    _, speakers = linear_sum_assignment(clustering.similarity[np.array(pieces)], maximize=True)
    return speakers.tolist()  # type: ignore[no-any-return]


def _join(times: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The times by start, joined where they meet or the pause between them is short."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(times):
        if joined and start - joined[-1][1] <= _LONGEST_GAP_SECONDS:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return iter(joined)
