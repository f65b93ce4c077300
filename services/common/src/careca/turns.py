"""Turns as every service writes them down: speakers named by first speech, one of several speakers at a time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
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
    """The turns by start without overlap: who began first keeps the floor.

    Of two who begin together, who goes on longer has it. Who only speaks while another one has the floor is left out.
    """
    exclusive: list[Turn] = []
    taken_until = 0.0
    for turn in sorted(turns, key=lambda turn: (turn.start, -turn.end, turn.speaker)):
        if turn.end > taken_until:
            exclusive.append(replace(turn, start=max(turn.start, taken_until)))
            taken_until = turn.end
    return tuple(exclusive)
