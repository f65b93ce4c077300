"""Turns follow utterances: if time goes from one speaker to another, so do the turns. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from careca.types import Result, Turn, Utterance
from careca_gateway.pipeline.intervals import Span, intersect, subtract, union

REST_SECONDS = 0.5
"""What is left of a turn goes too if it is shorter than this and none of its speaker's utterances is in it.

Utterances begin and end with words, and turns with sounds, a little earlier and later.
"""

LEAST_SECONDS = 0.01
"""Shorter times come from rounding, and give nobody a turn."""

_ORDER = attrgetter("start", "end", "speaker")

_Covered = Mapping[str | None, list[Span]]
"""The time of the utterances of each speaker; of ``None`` where no speaker is known."""


@dataclass(frozen=True, slots=True)
class _Change:
    """The time that speakers got from others or from silence, and the time that they lost to others."""

    gained: dict[str | None, list[Span]]
    lost: dict[str, list[Span]]


def follow(result: Result, before: Sequence[Utterance]) -> Result:
    """Returns ``result`` with turns that follow its utterances, which were ``before``.

    Whoever has an utterance now at a time without one before gets a turn there. Whoever loses that time to somebody
    else loses that part of their turns. The turns of others stay, so that people still talk at once. Exclusive turns
    belong to one speaker: there the others lose it too. Time that nobody gets does not change any turn.
    """
    spoken = _covered(result.utterances)
    change = _changed(_covered(before), spoken)
    if not any(change.gained.values()):
        return result
    turns = result.turns
    for loser, spans in change.lost.items():
        turns = _without(turns, spans, spoken, only=loser)
    exclusive = result.exclusive_turns
    for speaker, spans in change.gained.items():
        exclusive = _without(exclusive, spans, spoken, but=speaker)
        if speaker is not None:
            turns, exclusive = _with(turns, speaker, spans), _with(exclusive, speaker, spans)
    return replace(result, turns=turns, exclusive_turns=exclusive)


def joined(turns: Iterable[Turn], speaker: str) -> tuple[Turn, ...]:
    """Returns the turns by start. Those of ``speaker`` that overlap or touch are one."""
    return _with(turns, speaker, ())


def _covered(utterances: Iterable[Utterance]) -> _Covered:
    spans: dict[str | None, list[Span]] = {}
    for utterance in utterances:
        spans.setdefault(utterance.speaker, []).append(Span(utterance.start, utterance.end))
    return {speaker: union(each) for speaker, each in spans.items()}


def _changed(before: _Covered, after: _Covered) -> _Change:
    gained = {
        speaker: [span for span in subtract(spans, before.get(speaker, [])) if span.end - span.start >= LEAST_SECONDS]
        for speaker, spans in after.items()
    }
    lost: dict[str, list[Span]] = {}
    for speaker, spans in before.items():
        if speaker is not None:
            taken = union(span for other, given in gained.items() if other != speaker for span in given)
            lost[speaker] = subtract(intersect(spans, taken), after.get(speaker, []))
    return _Change(gained, lost)


def _without(
    turns: Iterable[Turn], spans: list[Span], spoken: _Covered, *, only: str | None = None, but: str | None = None
) -> tuple[Turn, ...]:
    """Returns the turns without ``spans``: those of one speaker, or those of all but one."""
    left: list[Turn] = []
    for turn in turns:
        whole = [Span(turn.start, turn.end)]
        concerned = turn.speaker == only if only is not None else turn.speaker != but
        if not concerned or (rest := subtract(whole, spans)) == whole:
            left.append(turn)
        else:
            left += [replace(turn, start=part.start, end=part.end) for part in rest if _stays(part, turn, spoken)]
    return tuple(sorted(left, key=_ORDER))


def _stays(part: Span, turn: Turn, spoken: _Covered) -> bool:
    return part.end - part.start >= REST_SECONDS or bool(intersect([part], spoken.get(turn.speaker, [])))


def _with(turns: Iterable[Turn], speaker: str, spans: Iterable[Span]) -> tuple[Turn, ...]:
    turns = tuple(turns)
    own = union([*(Span(turn.start, turn.end) for turn in turns if turn.speaker == speaker), *spans])
    others = (turn for turn in turns if turn.speaker != speaker)
    return tuple(sorted((*others, *(Turn(*span, speaker) for span in own)), key=_ORDER))
