"""Reconstruction: from who speaks in each window, and which cluster that is, to turns through the whole recording. Pure.

Source: the overlap-add of Bredin, "pyannote.audio 2.1 speaker diarization pipeline", Interspeech 2023. F is the number
of frames of the recording, K that of speakers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from careca.types import Turn
from careca_diarizer.windows import FRAMES_PER_SECOND, LocalSpeakers, frame_start_seconds

NOBODY = -1
"""The cluster of a local speaker who is not given to any."""

_LONGEST_GAP_SECONDS = 0.4
"""A pause up to this long within one speaker's speech does not end the turn: people count it as part of it."""

_SHORTEST_TURN_SECONDS = 0.15
"""Anything shorter is an artefact and no speech."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Turns by start, once as people talk and once with one speaker at each moment."""

    inclusive: tuple[Turn, ...]
    exclusive: tuple[Turn, ...]


def reconstruct(
    local: LocalSpeakers, clusters: npt.NDArray[np.int64], duration: float, *, keep_all: bool = False
) -> Turns:
    """The turns of a recording of ``duration`` seconds.

    ``clusters`` has the cluster of each local speaker, or ``NOBODY``: shape (windows, speakers). ``keep_all`` sees to it
    that each cluster speaks at least once, also where other windows outvote it, as far as there are frames for it.
    """
    speakers = int(clusters.max(initial=NOBODY)) + 1
    if speakers == 0:
        return Turns((), ())
    votes, speaking = _overlap_add(local, clusters, speakers)
    active = _smooth(_loudest(votes, speaking))
    if keep_all:
        _give_each_a_turn(active, votes)
    order = _order_of_first_speech(active)
    exclusive = _exclusive(active, votes)
    return Turns(_turns(active, order, duration), _turns(exclusive, order, duration))


def _overlap_add(
    local: LocalSpeakers, clusters: npt.NDArray[np.int64], speakers: int
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """Windows that hear each speaker in each frame, (F, K), and the number of speakers they hear on average, (F,)."""
    votes = np.zeros((local.frames, speakers), dtype=np.uint16)
    heard = np.zeros(local.frames, dtype=np.uint16)
    windows = np.zeros(local.frames, dtype=np.uint16)
    for start, active, names in zip(local.starts, local.active, clusters, strict=True):
        span = slice(start, start + len(active))
        named = names != NOBODY
        for name in np.unique(names[named]):
            votes[span, name] += active[:, names == name].any(axis=1)
            heard[span] += active[:, names == name].any(axis=1)
        windows[span] += 1
    return votes, ((2 * heard + windows) // (2 * np.maximum(windows, 1))).astype(np.uint8)


def _loudest(votes: npt.NDArray[np.uint16], speaking: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """The ``speaking`` speakers with the most votes in each frame; the lower number wins a tie: (F, K)."""
    rank = np.argsort(np.argsort(-votes.astype(np.int32), axis=1, kind="stable"), axis=1, kind="stable")
    active: npt.NDArray[np.bool_] = (rank < speaking[:, None]) & (votes > 0)
    return active


def _smooth(active: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The same with short pauses filled and then short turns dropped: (F, K)."""
    smooth = active.copy()
    for column in smooth.T:
        ends, starts = [end for _, end in _runs(column)], [start for start, _ in _runs(column)]
        for end, start in zip(ends[:-1], starts[1:], strict=True):
            if start - end <= _LONGEST_GAP_SECONDS * FRAMES_PER_SECOND:
                column[end:start] = True
        for start, end in _runs(column):
            if end - start < _SHORTEST_TURN_SECONDS * FRAMES_PER_SECOND:
                column[start:end] = False
    return smooth
