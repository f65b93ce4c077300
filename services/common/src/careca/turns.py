"""Turns as every service writes them down: speakers named by first speech, one of several speakers at a time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from operator import attrgetter

from careca.types import Turn

_ORDER = attrgetter("start", "end", "speaker")


def speaker_label(number: int) -> str:
    """The label of a speaker by the place in the order of first speech, from 0: ``SPEAKER_00``, ``SPEAKER_01`` ..."""
    return f"SPEAKER_{number:02d}"


def speaker_names(turns: Iterable[Turn]) -> dict[str, str]:
    """For each speaker of ``turns`` the label by order of first speech."""
    in_order = dict.fromkeys(turn.speaker for turn in sorted(turns, key=_ORDER))
    return {speaker: speaker_label(number) for number, speaker in enumerate(in_order)}


def renamed(turns: Iterable[Turn], names: Mapping[str, str]) -> tuple[Turn, ...]:
    """The turns by start, with the speakers' new names."""
    return tuple(sorted((replace(turn, speaker=names[turn.speaker]) for turn in turns), key=_ORDER))


def exclusive_turns(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """The turns by start without overlap: who began last has the floor, and gives it back.

    A transcript follows one voice at a time, and that is mostly the one that comes in. Nobody is left out who speaks
    only while somebody else does. Of two who begin together, who ends first has the floor first.
    """
    turns = tuple(turns)
    exclusive: list[Turn] = []
    speaking: list[Turn] = []
    before: Turn | None = None
    begin_first = sorted(turns, key=_ORDER, reverse=True)
    for start, end in pairwise(sorted({edge for turn in turns for edge in (turn.start, turn.end)})):
        while begin_first and begin_first[-1].start <= start:
            speaking.append(begin_first.pop())
        speaking = [turn for turn in speaking if turn.end > start]
        floor = max(speaking, key=lambda turn: (turn.start, -turn.end, turn.speaker), default=None)
        if floor and floor is before:
            exclusive[-1] = replace(exclusive[-1], end=end)
        elif floor:
            exclusive.append(replace(floor, start=start, end=end))
        before = floor
    return tuple(exclusive)
