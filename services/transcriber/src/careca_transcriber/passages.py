"""Divides a recording into passages of one language each. Pure functions, without a model.

Speech is cut at its pauses into *pieces* of a few seconds, and Whisper gives the probability of each language for each
piece. If a piece seems to be in another language than most of the recording, the piece and its neighbours are also cut
in all other ways that their pauses allow. Then the best path through all pieces is searched, with one language for each
piece, by dynamic programming (Viterbi's algorithm over a lattice of segments, as in Ostendorf, Digalakis and Kimball,
"From HMM's to segment models", IEEE Transactions on Speech and Audio Processing 4, 1996). The start of a passage that
is not in the main language has a cost, because such passages are rare.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import fmean

import numpy as np

from careca.types import SAMPLE_RATE, Segment
from careca_transcriber.clips import loudness, on_grid, quietest
from careca_transcriber.speech import FRAME_SAMPLES, Activity, Span, find_speech

LONGEST_PIECE_SAMPLES = 6 * SAMPLE_RATE
"""The longest piece. Whisper base needs 3.5 s of clear speech; a longer piece more often has two languages."""

SHORTEST_PIECE_SAMPLES = 2 * SAMPLE_RATE
"""Shorter pieces are not counted: for one or two words Whisper only guesses."""

Probabilities = Mapping[str, float]
"""Probability of each language by its code; the sum is 1."""

_LONGEST_PAUSE_SAMPLES = 3 * SAMPLE_RATE
_LEAST_PROBABILITY = 0.01
_UNIT_SAMPLES = 3 * SAMPLE_RATE
_PASSAGE_COST = 5.5
_DOUBT = 1.0
_SURE_SAMPLES = 15 * SAMPLE_RATE
_LEAST_CUT_DISTANCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of speech with Whisper's language probabilities, from one or more views of the piece."""

    span: Span
    views: tuple[Probabilities, ...]

    def score(self, language: str) -> float:
        """Returns the mean log odds of ``language`` over the views, scaled by length; 0 for a piece that is too short.

        Probabilities are limited to 1 % and 99 %, because Whisper is overconfident. The score grows with the square
        root of the length, because errors at adjacent times are correlated.
        """
        if len(self.span) < SHORTEST_PIECE_SAMPLES:
            return 0.0
        odds = fmean(_log_odds(view.get(language, 0.0)) for view in self.views)
        return odds * math.sqrt(len(self.span) / _UNIT_SAMPLES)

    @property
    def language(self) -> str:
        """The most probable language in the first view."""
        return max(self.views[0], key=self.views[0].__getitem__)


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a recording, including pauses, with one language."""

    span: Span
    language: str
    probability: float
    """Probability of the language, from 0 to 1."""


def cut_pieces(activity: Activity) -> list[Span]:
    """Returns all speech in pieces of at most 6 s, by start and without overlap.

    Long speech is cut at its quietest place, and then the parts again, so that the cuts are at the deepest pauses.
    Pieces of less than 2 s are joined to a neighbour if there is one nearby.
    """
    pieces: list[Span] = []
    for stretch in find_speech(activity):
        for piece in _halved(stretch, activity):
            if pieces and _belong_together(pieces[-1], piece):
                pieces[-1] = Span(pieces[-1].start, piece.end)
            else:
                pieces.append(piece)
    return pieces


def main_language(pieces: Sequence[Piece]) -> str:
    """Returns the language with the best score over all ``pieces``; empty without a piece that is long enough."""
    languages = sorted({piece.language for piece in pieces if len(piece.span) >= SHORTEST_PIECE_SAMPLES})
    return max(languages, key=lambda code: sum(piece.score(code) for piece in pieces), default="")


def other_pieces(pieces: Sequence[Piece], main: str, activity: Activity) -> list[Span]:
    """Returns alternative pieces, not in ``pieces``, for speech that may be in another language than ``main``.

    These are all pieces between two pauses inside pieces for which another language is about as probable as ``main``,
    and inside their neighbours.
    """
    doubtful = [piece.language != main and piece.score(piece.language) > piece.score(main) - _DOUBT for piece in pieces]
    touching = [before.span.end == after.span.start for before, after in pairwise(pieces)]
    suspect = {index for index, doubt in enumerate(doubtful) if doubt}
    suspect |= {index + 1 for index, touch in enumerate(touching) if touch and doubtful[index]}
    suspect |= {index for index, touch in enumerate(touching) if touch and doubtful[index + 1]}
    runs: list[Span] = []
    for index in sorted(suspect):
        begun = bool(runs) and runs[-1].end == pieces[index].span.start
        runs.append(Span(runs.pop().start if begun else pieces[index].span.start, pieces[index].span.end))
    known = {piece.span for piece in pieces}
    return [span for run in runs for span in _from_pause_to_pause(run, activity) if span not in known]


def unsure_pieces(pieces: Sequence[Piece], main: str) -> list[Piece]:
    """Returns pieces with only one view in passages of less than 15 s in another language than ``main``.

    These need further views, because Whisper is often wrong about a foreign name.
    """
    return [
        piece
        for language, run in _runs(pieces, main)
        if language != main and sum(len(piece.span) for piece in run) < _SURE_SAMPLES
        for piece in run
        if len(piece.views) == 1 and len(piece.span) >= SHORTEST_PIECE_SAMPLES
    ]


def outweighs(pieces: Sequence[Piece], main: str, others: Collection[str]) -> bool:
    """Whether ``pieces`` favour ``main`` so strongly that each of ``others`` would be wrong if another method found it.

    This is so if a passage in ``main`` would be worth its cost even with the other one as the main language.
    """
    path = [piece for _, run in _runs(pieces, main) for piece in run]
    score = sum(piece.score(main) for piece in path)
    return score > 0 and all(score - sum(piece.score(other) for piece in path) > _PASSAGE_COST for other in others)


def find_passages(pieces: Sequence[Piece], main: str, total_samples: int) -> list[Passage]:
    """Returns passages by start that cover the whole recording of ``total_samples``; neighbours differ in language.

    ``pieces`` may overlap: the best sequence of them is used. Borders are in the middle of the pause between two
    pieces, or at the cut between them.
    """
    runs = _runs(pieces, main)
    if not runs:
        return []
    borders = [on_grid((before[-1].span.end + after[0].span.start) // 2) for (_, before), (_, after) in pairwise(runs)]
    return [
        Passage(Span(start, end), language, _probability(run, language))
        for (language, run), (start, end) in zip(runs, pairwise([0, *borders, total_samples]), strict=True)
    ]


def language_at(sample: int, passages: Sequence[Passage]) -> str:
    """Returns the language of the passage that contains ``sample``; after the end, that of the last passage."""
    return next((passage.language for passage in passages if sample < passage.span.end), passages[-1].language)


def prevailing(passages: Sequence[Passage], segments: Sequence[Segment]) -> tuple[str, float]:
    """Returns the language with the most speech and its probability; empty and 0 without speech."""
    if not segments:
        return "", 0.0
    seconds: defaultdict[str, float] = defaultdict(float)
    for segment in segments:
        seconds[segment.language] += segment.end - segment.start
    language = max(seconds, key=seconds.__getitem__)
    own = [passage for passage in passages if passage.language == language]
    if len(own) == 1:
        return language, own[0].probability
    samples = sum(len(passage.span) for passage in own)
    return language, sum(passage.probability * len(passage.span) for passage in own) / samples


def _runs(pieces: Sequence[Piece], main: str) -> list[tuple[str, list[Piece]]]:
    """Returns the best path through ``pieces``: languages, each with its consecutive pieces."""
    if not main:
        return []
    path = _best_path(sorted(pieces, key=lambda piece: (piece.span.start, piece.span.end)), main)
    likely: list[tuple[Piece, str]] = []
    for language, steps in groupby(path, key=lambda step: step[1]):
        run = [piece for piece, _ in steps]
        # Sounds without a clear language, such as cries, laughter and music, count as the main language.
        known = language if sum(piece.score(language) for piece in run) > 0 else main
        likely += ((piece, known) for piece in run)
    return [(language, [piece for piece, _ in run]) for language, run in groupby(likely, key=lambda step: step[1])]


def _best_path(pieces: Sequence[Piece], main: str) -> list[tuple[Piece, str]]:
    """Returns the sequence of pieces and their languages with the best total score.

    The total is the score of each piece in its language, minus the cost of each passage that is not in ``main``. Each
    piece is followed by pieces that start next after its end.
    """
    languages = sorted({main, *(piece.language for piece in pieces)})
    starts = sorted({piece.span.start for piece in pieces})
    best: list[dict[str, float]] = [{} for _ in range(len(starts) + 1)]
    source: list[dict[str, tuple[Piece, int, str]]] = [{} for _ in range(len(starts) + 1)]
    best[0] = {main: 0.0}
    for piece in pieces:
        here = bisect_left(starts, piece.span.start)
        there = bisect_left(starts, piece.span.end)
        if not best[here]:
            continue
        leader = max(best[here], key=best[here].__getitem__)
        for language in languages:
            entering = best[here][leader] - (0.0 if language == main else _PASSAGE_COST)
            staying = best[here].get(language, -math.inf)
            before, score = (language, staying) if staying >= entering else (leader, entering)
            score += piece.score(language)
            if score > best[there].get(language, -math.inf):
                best[there][language] = score
                source[there][language] = piece, here, before
    path: list[tuple[Piece, str]] = []
    node = len(starts)
    if not best[node]:
        return path
    language = max(best[node], key=best[node].__getitem__)
    while node:
        piece, node, before = source[node][language]
        path.append((piece, language))
        language = before
    return path[::-1]


def _probability(pieces: Sequence[Piece], language: str) -> float:
    """Returns the mean probability of ``language`` over ``pieces``, weighted by length."""
    samples = sum(len(piece.span) for piece in pieces)
    return sum(len(piece.span) * fmean(view.get(language, 0.0) for view in piece.views) for piece in pieces) / samples


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, _LEAST_PROBABILITY), 1 - _LEAST_PROBABILITY)
    return math.log(bounded / (1 - bounded))


def _halved(span: Span, activity: Activity) -> Iterator[Span]:
    """Cuts ``span`` at its quietest place, and the parts again, until all are short enough."""
    if len(span) <= LONGEST_PIECE_SAMPLES:
        yield span
        return
    cut = quietest(activity, Span(span.start + SHORTEST_PIECE_SAMPLES, span.end - SHORTEST_PIECE_SAMPLES))
    yield from _halved(Span(span.start, cut), activity)
    yield from _halved(Span(cut, span.end), activity)


def _belong_together(before: Span, after: Span) -> bool:
    """Whether one of two neighbours is too short for a piece of its own and the other one is near enough."""
    return (
        min(len(before), len(after)) < SHORTEST_PIECE_SAMPLES
        and after.start - before.end <= _LONGEST_PAUSE_SAMPLES
        and after.end - before.start <= LONGEST_PIECE_SAMPLES
    )


def _from_pause_to_pause(within: Span, activity: Activity) -> Iterator[Span]:
    """Yields all pieces of a valid length that start and end at a pause, without leaving a rest that is too short."""
    shortest = SHORTEST_PIECE_SAMPLES
    cuts = [cut for cut in _dips(within, activity) if within.start + shortest <= cut <= within.end - shortest]
    places = [within.start, *cuts, within.end]
    for first, start in enumerate(places):
        for end in places[first + 1 :]:
            if shortest <= end - start <= LONGEST_PIECE_SAMPLES:
                yield Span(start, end)


def _dips(span: Span, activity: Activity) -> list[int]:
    """Returns the quietest places in ``span`` that are at least 1 s apart, in order of time."""
    first = span.start // FRAME_SAMPLES
    loud = loudness(activity, first, span.end // FRAME_SAMPLES)
    distance = round(_LEAST_CUT_DISTANCE_SECONDS * SAMPLE_RATE / FRAME_SAMPLES)
    dips: list[int] = []
    for frame in np.argsort(loud, kind="stable").tolist():
        if all(abs(frame - other) >= distance for other in (*dips, 0, len(loud))):
            dips.append(frame)
    return sorted(on_grid((first + frame) * FRAME_SAMPLES) for frame in dips)
