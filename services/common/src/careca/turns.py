"""Functions over turns: labels by order of first speech, and turns without overlap. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from operator import attrgetter

from careca.types import Turn

_ORDER = attrgetter("start", "end", "speaker")


def speaker_label(number: int) -> str:
    """Returns the label of a speaker by its index in the order of first speech: ``SPEAKER_00``, ``SPEAKER_01`` ..."""
    return f"SPEAKER_{number:02d}"


def speaker_names(turns: Iterable[Turn]) -> dict[str, str]:
    """Maps each speaker of ``turns`` to its label, by order of first speech."""
    in_order = dict.fromkeys(turn.speaker for turn in sorted(turns, key=_ORDER))
    return {speaker: speaker_label(number) for number, speaker in enumerate(in_order)}


def renamed(turns: Iterable[Turn], names: Mapping[str, str]) -> tuple[Turn, ...]:
    """Returns the turns by start, with the new names of the speakers."""
    return tuple(sorted((replace(turn, speaker=names[turn.speaker]) for turn in turns), key=_ORDER))


def exclusive_turns(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """Returns the turns by start without overlap.

    While turns overlap, the one that started last is kept, and the earlier one continues when it ends. A transcript
    follows one voice at a time, usually the one that starts last. This way a speaker who speaks only during the turns
    of others is kept too. Of two turns that start together, the one that ends first comes first.
    """
    turns = tuple(turns)
    exclusive: list[Turn] = []
    speaking: list[Turn] = []
    previous: Turn | None = None
    pending = sorted(turns, key=_ORDER, reverse=True)
    for start, end in pairwise(sorted({edge for turn in turns for edge in (turn.start, turn.end)})):
        while pending and pending[-1].start <= start:
            speaking.append(pending.pop())
        speaking = [turn for turn in speaking if turn.end > start]
        current = max(speaking, key=lambda turn: (turn.start, -turn.end, turn.speaker), default=None)
        if current and current is previous:
            exclusive[-1] = replace(exclusive[-1], end=end)
        elif current:
            exclusive.append(replace(current, start=start, end=end))
        previous = current
    return tuple(exclusive)
