"""Stitching: connects the local speakers of windows to tracks through the recording, and cuts these into pieces. Pure.

Windows overlap, so a speaker of one window is recognised in the next one by speaking at the same times. A track ends
when its speaker pauses for most of a window. Clustering later finds the speaker of each piece by voice, so a wrong
connection only affects the position of a cut.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter

import numpy as np
import numpy.typing as npt

from careca_diarizer.windows import FRAMES_PER_SECOND, LocalSpeakers

_SILENT = -1

_LONGEST_PIECE_SECONDS = 3.0
"""Long enough to recognise a voice, and short enough to limit the effect of a missed change of speaker."""

_PIECE_SLACK = 0.2
"""A piece may exceed the length by this share before it is cut in two."""

_SHORTEST_SPAN_FRAMES = round(0.15 * FRAMES_PER_SECOND)
"""Shorter spans are artefacts."""

_ENOUGH_SECONDS = 1.5
"""Spans of at least this length are pieces of their own; a shorter span is combined with its neighbour."""

_LONGEST_PAUSE_SECONDS = 5.0
"""Spans of a track with a longer pause are not combined, because the speaker may have changed."""

_BLOCK_FRAMES = 1 << 16
"""Frames that are ranked at once, to bound the memory."""


@dataclass(frozen=True, slots=True)
class Run:
    """Speech of one track without a pause, from frame ``start`` up to, but not including, ``end``."""

    track: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Speech of one track, for one embedding. ``clean`` if nobody else speaks at the same time."""

    track: int
    spans: tuple[tuple[int, int], ...]
    """Start and end (exclusive) frames: ascending, at least one span."""
    clean: bool
    part: bool = False
    """Whether it is a single span of another piece, with an embedding of its own."""

    @property
    def longest(self) -> tuple[int, int]:
        """The longest span, which most reliably has the piece's voice: start and end (exclusive)."""
        return max(self.spans, key=lambda span: span[1] - span[0])

    @property
    def start(self) -> int:
        """The first frame of its longest span."""
        return self.longest[0]

    @property
    def end(self) -> int:
        """The frame after its longest span."""
        return self.longest[1]

    @property
    def seconds(self) -> float:
        """The length of its spans, without the pauses between them."""
        return sum(end - start for start, end in self.spans) / FRAMES_PER_SECOND


def stitch(local: LocalSpeakers) -> tuple[Run, ...]:
    """Returns the speech of each track, by track and start.

    The number of active tracks in a frame is the mean number of speakers over its windows; the active tracks are those
    that are active in most windows.
    """
    tracks = _link(local)
    spans = _spans(local, tracks)
    lanes = _lanes(spans)
    active = _loudest(*_overlap_add(local, tracks, lanes))
    return tuple(
        Run(track, start + begin, start + finish)
        for track, (start, end) in enumerate(spans)
        for begin, finish in runs_of(active[start:end, lanes[track]])
    )


def cut_pieces(runs: Sequence[Run]) -> tuple[Piece, ...]:
    """Returns pieces of about 3 s at most, for embeddings, by track and start.

    They are cut from speech of a single track; if a track never speaks alone, from all its speech. In a piece with
    several spans, all spans except the longest are also pieces of their own, as parts: they are too short for training,
    but long enough to be assigned to a speaker.
    """
    depth = np.zeros(max((run.end for run in runs), default=0), dtype=np.uint8)
    for run in runs:
        depth[run.start : run.end] += 1
    of_track: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        of_track[run.track].append(run)
    return tuple(
        piece
        for track, own in of_track.items()
        for piece in sorted(_pieces_of(track, own, depth), key=attrgetter("start"))
    )


def runs_of(active: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yields the start and end (exclusive) of each run of true values in ``active``, of shape (frames,)."""
    edges = np.flatnonzero(np.diff(active, prepend=False, append=False))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _link(local: LocalSpeakers) -> npt.NDArray[np.int64]:
    """Returns the track of each local speaker, or ``_SILENT``: shape (windows, speakers)."""
    from scipy.optimize import linear_sum_assignment

    windows, frames, speakers = local.active.shape
    tracks = np.full((windows, speakers), _SILENT, dtype=np.int64)
    known = 0
    for window, (start, active) in enumerate(zip(local.starts, local.active, strict=True)):
        if window:
            shift = int(start - local.starts[window - 1])
            together = active[: frames - shift].T.astype(np.int64) @ local.active[window - 1, shift:].astype(np.int64)
            for speaker, before in zip(*linear_sum_assignment(together, maximize=True), strict=True):
                if together[speaker, before]:
                    tracks[window, speaker] = tracks[window - 1, before]
        new = np.flatnonzero(active.any(axis=0) & (tracks[window] == _SILENT))
        tracks[window, new] = np.arange(known, known + len(new))
        known += len(new)
    return tracks


def _spans(local: LocalSpeakers, tracks: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Returns the first frame, and the frame after the last, of the windows with each track."""
    spans: dict[int, tuple[int, int]] = {}
    for start, named in zip(local.starts.tolist(), tracks.tolist(), strict=True):
        for track in named:
            if track != _SILENT:
                spans[track] = (spans.get(track, (start, 0))[0], start + local.active.shape[1])
    return [spans[track] for track in range(len(spans))]


def _lanes(spans: Sequence[tuple[int, int]]) -> list[int]:
    """Returns a column for each track. Tracks whose spans do not overlap share a column, to keep columns few."""
    lanes: list[int] = []
    free_from: list[int] = []
    for start, end in spans:
        lane = next((lane for lane, frame in enumerate(free_from) if frame <= start), len(free_from))
        free_from[lane : lane + 1] = [end]
        lanes.append(lane)
    return lanes


def _overlap_add(
    local: LocalSpeakers, tracks: npt.NDArray[np.int64], lanes: Sequence[int]
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Returns in how many windows each lane is active, (frames, lanes), and the mean number of speakers, (frames,)."""
    votes = np.zeros((local.frames, max(lanes, default=-1) + 1), dtype=np.uint16)
    windows = np.zeros(local.frames, dtype=np.uint16)
    for start, active, named in zip(local.starts, local.active, tracks, strict=True):
        span = slice(start, start + len(active))
        windows[span] += 1
        for speaker in np.flatnonzero(named != _SILENT):
            votes[span, lanes[named[speaker]]] += active[:, speaker]
    heard = votes.sum(axis=1, dtype=np.uint16)
    return votes, (2 * heard + windows) // (2 * windows)  # rounded half up; every frame is in a window


def _loudest(votes: npt.NDArray[np.uint16], speaking: npt.NDArray[np.uint16]) -> npt.NDArray[np.bool_]:
    """Returns whether a lane is among the ``speaking`` lanes with most votes; the first wins ties: (frames, lanes)."""
    active = np.zeros(votes.shape, dtype=np.bool_)
    for first in range(0, len(votes), _BLOCK_FRAMES):
        block = slice(first, first + _BLOCK_FRAMES)
        order = np.argsort(-votes[block].astype(np.int32), axis=1, kind="stable")
        chosen = np.arange(votes.shape[1]) < speaking[block, None]
        np.put_along_axis(active[block], order, chosen, axis=1)
    active &= votes > 0
    return active


def _pieces_of(track: int, runs: Sequence[Run], depth: npt.NDArray[np.uint8]) -> Iterator[Piece]:
    alone = [
        (run.start + start, run.start + end) for run in runs for start, end in runs_of(depth[run.start : run.end] == 1)
    ]
    for spans, clean in ((alone, True), ([(run.start, run.end) for run in runs], False)):
        if audible := [span for span in spans if span[1] - span[0] >= _SHORTEST_SPAN_FRAMES]:
            for group in _grouped(audible):
                for piece in (Piece(track, cut, clean) for cut in _cut(group)):
                    yield piece
                    yield from (
                        Piece(track, (span,), clean, part=True) for span in piece.spans if span != piece.longest
                    )
            return


def _grouped(spans: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Yields groups of adjacent spans: a short span is combined with its neighbour if that is near enough."""
    group: list[tuple[int, int]] = []
    seconds = 0.0
    for start, end in spans:
        length = (end - start) / FRAMES_PER_SECOND
        far = group and (start - group[-1][1]) / FRAMES_PER_SECOND > _LONGEST_PAUSE_SECONDS
        if group and (far or min(seconds, length) >= _ENOUGH_SECONDS or seconds + length > _LONGEST_PIECE_SECONDS):
            yield group
            group, seconds = [], 0.0
        group.append((start, end))
        seconds += length
    if group:
        yield group


def _cut(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], ...]]:
    """Yields the group, or equal parts of a single span that is too long."""
    (start, end), *more = spans
    count = int(np.ceil((end - start) / FRAMES_PER_SECOND / _LONGEST_PIECE_SECONDS - _PIECE_SLACK))
    if more or count <= 1:
        yield tuple(spans)
    else:
        edges = np.linspace(start, end, count + 1).astype(int).tolist()
        yield from (((begin, finish),) for begin, finish in pairwise(edges))
