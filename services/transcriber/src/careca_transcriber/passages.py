"""Which language is spoken where in a recording: passages, each in one language. Pure functions, without any model.

Speech is cut at its pauses into *pieces* of a few seconds, and Whisper says of each how probable each language is.
Where a piece sounds like another language than most of the recording, it and its neighbours are cut in all other ways
that their pauses allow. Then the best way through all pieces is found, in which each piece has one language: dynamic
programming (Viterbi's algorithm over a lattice of segments, as in Ostendorf, Digalakis and Kimball, "From HMM's to
segment models", IEEE Transactions on Speech and Audio Processing 4, 1996), where beginning a passage in another than
the main language costs as much as it is unlikely.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import fmean

import numpy as np

from careca.types import SAMPLE_RATE, Segment
from careca_transcriber.clips import on_grid, quietest, quietness
from careca_transcriber.speech import FRAME_SAMPLES, Activity, Span, find_speech

LONGEST_PIECE_SAMPLES = 6 * SAMPLE_RATE
"""The longest piece. Whisper base tells the language of 3.5 s of clear speech; a longer piece more often holds two."""

SHORTEST_PIECE_SAMPLES = 2 * SAMPLE_RATE
"""A shorter piece has no say: of a word or two Whisper guesses."""

Probabilities = Mapping[str, float]
"""Probability of each language by its code, together 1."""

_LONGEST_PAUSE_SAMPLES = 3 * SAMPLE_RATE
_LEAST_PROBABILITY = 0.01
_UNIT_SAMPLES = 3 * SAMPLE_RATE
_PASSAGE_COST = 5.5
_DOUBT = 1.0
_SURE_SAMPLES = 15 * SAMPLE_RATE
_LEAST_CUT_DISTANCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of speech and how probable Whisper finds each language in it: in one view of it, or in several."""

    span: Span
    views: tuple[Probabilities, ...]

    def score(self, language: str) -> float:
        """Logarithm of the odds of ``language``, the mean over the views; 0 of a piece that is too short.

        No view counts for more than probabilities of 1 % and 99 % do: Whisper is wrong more often than it admits. The
        score grows with the square root of the length: what is heard next to each other is wrong together at times.
        """
        if len(self.span) < SHORTEST_PIECE_SAMPLES:
            return 0.0
        odds = fmean(_log_odds(view.get(language, 0.0)) for view in self.views)
        return odds * math.sqrt(len(self.span) / _UNIT_SAMPLES)

    @property
    def language(self) -> str:
        """The most probable one in the first view."""
        return max(self.views[0], key=self.views[0].__getitem__)


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a recording, with pauses, in which one language is spoken."""

    span: Span
    language: str
    probability: float
    """Probability of the language, from 0 to 1."""


def cut_pieces(activity: Activity) -> list[Span]:
    """All speech in pieces of at most 6 s, by start and without overlap.

    Long speech is cut where it is quietest, then the parts are, so that the deepest pauses are among the cuts. Pieces
    of less than 2 s are joined to a neighbour where there is one.
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
    """The language with the best score over all ``pieces``. Empty without a piece that has a say."""
    languages = sorted({piece.language for piece in pieces if len(piece.span) >= SHORTEST_PIECE_SAMPLES})
    return max(languages, key=lambda code: sum(piece.score(code) for piece in pieces), default="")


def other_pieces(pieces: Sequence[Piece], main: str, activity: Activity) -> list[Span]:
    """The other ways to cut what may be in another language than ``main``: pieces that are not among ``pieces``.

    These are all from pause to pause that begin and end in a piece that is as probable in another language, or nearly,
    or in a neighbour of one.
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
    """The pieces with one view only on which a passage of less than 15 s in another language than ``main`` rests.

    Of these Whisper is to be asked in other ways, too: it has no second thoughts about a name that sounds foreign.
    """
    return [
        piece
        for language, run in _runs(pieces, main)
        if language != main and sum(len(piece.span) for piece in run) < _SURE_SAMPLES
        for piece in run
        if len(piece.views) == 1 and len(piece.span) >= SHORTEST_PIECE_SAMPLES
    ]


def outweighs(pieces: Sequence[Piece], main: str, other: str) -> bool:
    """Whether ``pieces`` speak for ``main`` so much that ``other``, which was found in another way, must be wrong.

    They do where beginning a passage in ``main`` would pay though all else were in ``other``.
    """
    path = [piece for _, run in _runs(pieces, main) for piece in run]
    score = sum(piece.score(main) for piece in path)
    return score > 0 and score - sum(piece.score(other) for piece in path) > _PASSAGE_COST


def find_passages(pieces: Sequence[Piece], main: str, total_samples: int) -> list[Passage]:
    """Passages by start that cover the whole recording of ``total_samples``; neighbours differ in language.

    ``pieces`` may overlap: the best of them that follow each other are taken. Borders lie in the middle of the pause
    between two pieces, or where one was cut from the other.
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
    """The language of the passage that holds ``sample``; of the last one behind them all."""
    return next((passage.language for passage in passages if sample < passage.span.end), passages[-1].language)


def prevailing(passages: Sequence[Passage], segments: Sequence[Segment]) -> tuple[str, float]:
    """The language in which most is said, with its probability in its passages. Empty and 0 where nothing is said."""
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
    """The best way through ``pieces``: languages, each with the pieces in it that follow each other."""
    if not main:
        return []
    path = _best_path(sorted(pieces, key=lambda piece: (piece.span.start, piece.span.end)), main)
    likely: list[tuple[Piece, str]] = []
    for language, steps in groupby(path, key=lambda step: step[1]):
        run = [piece for piece, _ in steps]
        # What is in no language for certain, such as cries, laughter and music, is not in another one.
        known = language if sum(piece.score(language) for piece in run) > 0 else main
        likely += ((piece, known) for piece in run)
    return [(language, [piece for piece, _ in run]) for language, run in groupby(likely, key=lambda step: step[1])]


def _best_path(pieces: Sequence[Piece], main: str) -> list[tuple[Piece, str]]:
    """The pieces that follow each other and their languages, with the best score in all.

    The score is that of each piece in its language, less the cost of each passage in another than ``main``. Each piece
    leads on to those that begin next after its end.
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
    """The mean probability of ``language`` over the time of ``pieces``."""
    samples = sum(len(piece.span) for piece in pieces)
    return sum(len(piece.span) * fmean(view.get(language, 0.0) for view in piece.views) for piece in pieces) / samples


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, _LEAST_PROBABILITY), 1 - _LEAST_PROBABILITY)
    return math.log(bounded / (1 - bounded))


def _halved(span: Span, activity: Activity) -> Iterator[Span]:
    """``span`` cut at its quietest place, then each part at its own, until all are short enough."""
    if len(span) <= LONGEST_PIECE_SAMPLES:
        yield span
        return
    cut = quietest(activity, Span(span.start + SHORTEST_PIECE_SAMPLES, span.end - SHORTEST_PIECE_SAMPLES))
    yield from _halved(Span(span.start, cut), activity)
    yield from _halved(Span(cut, span.end), activity)


def _belong_together(before: Span, after: Span) -> bool:
    """Whether one of two neighbours is too short to be a piece of its own, and the other one is near."""
    return (
        min(len(before), len(after)) < SHORTEST_PIECE_SAMPLES
        and after.start - before.end <= _LONGEST_PAUSE_SAMPLES
        and after.end - before.start <= LONGEST_PIECE_SAMPLES
    )


def _from_pause_to_pause(within: Span, activity: Activity) -> Iterator[Span]:
    """All pieces of a permitted length that begin and end at a pause within speech, and leave no rest too short."""
    shortest = SHORTEST_PIECE_SAMPLES
    cuts = [cut for cut in _dips(within, activity) if within.start + shortest <= cut <= within.end - shortest]
    places = [within.start, *cuts, within.end]
    for first, start in enumerate(places):
        for end in places[first + 1 :]:
            if shortest <= end - start <= LONGEST_PIECE_SAMPLES:
                yield Span(start, end)


def _dips(span: Span, activity: Activity) -> list[int]:
    """Where it is quietest within ``span``: the deepest places first that are at least 1 s apart, then in order."""
    first = span.start // FRAME_SAMPLES
    heard = quietness(activity, first, span.end // FRAME_SAMPLES)
    distance = round(_LEAST_CUT_DISTANCE_SECONDS * SAMPLE_RATE / FRAME_SAMPLES)
    dips: list[int] = []
    for frame in np.argsort(heard, kind="stable").tolist():
        if all(abs(frame - other) >= distance for other in (*dips, 0, len(heard))):
            dips.append(frame)
    return sorted(on_grid((first + frame) * FRAME_SAMPLES) for frame in dips)
