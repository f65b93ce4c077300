"""Applies edits to a result, in order, and says what they change. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from careca.errors import InvalidRequest
from careca.types import Edit, RenameSpeaker, Result, Splice, Utterance
from careca_gateway.corrections.limits import MAX_EDITS
from careca_gateway.corrections.replacing import replace_utterances
from careca_gateway.corrections.speakers import rename
from careca_gateway.corrections.turns import follow

_SUMMARY_RENAMES = 3
_MILLISECONDS = 3


class Correction(NamedTuple):
    """A corrected result, one splice for each edit, and what was changed, in one line for people."""

    result: Result
    splices: tuple[Splice, ...]
    summary: str


def apply_edits(result: Result, edits: Sequence[Edit]) -> Correction:
    """Returns the corrected result.

    Raises ``InvalidRequest`` with the path of the wrong field if an edit cannot be applied.
    """
    if not 1 <= len(edits) <= MAX_EDITS:
        raise InvalidRequest(
            f"edits has {len(edits)} entries; from 1 to {MAX_EDITS} are accepted in one save", field="edits"
        )
    splices: list[Splice] = []
    changed = 0
    # The whole transcript is renamed, and all turns follow, once for consecutive edits of a kind.
    for _, group in groupby(enumerate(edits), key=lambda numbered: isinstance(numbered[1], RenameSpeaker)):
        renaming = []
        before = result.utterances
        for index, edit in group:
            splice = Splice()
            if isinstance(edit, RenameSpeaker):
                renaming.append((edit, f"edits[{index}].rename_speaker"))
            else:
                removed = result.utterances[max(edit.index, 0) : max(edit.index + edit.count, 0)]
                result, splice = replace_utterances(result, edit, f"edits[{index}].replace_utterances")
                changed += _changed(removed, splice.utterances)
            splices.append(splice)
        result = rename(result, renaming) if renaming else follow(result, before)
    renames = [edit for edit in edits if isinstance(edit, RenameSpeaker)]
    return Correction(result, tuple(splices), _summary(renames, changed))


def _changed(removed: Iterable[Utterance], added: Iterable[Utterance]) -> int:
    """Returns how many utterances are other ones. Those that differ only by rounding, as in JSON, are the same."""
    before, after = Counter(map(_seen, removed)), Counter(map(_seen, added))
    return max((before - after).total(), (after - before).total())


def _seen(utterance: Utterance) -> tuple[object, ...]:
    """Returns what a reader sees of an utterance."""
    start, end = round(utterance.start, _MILLISECONDS), round(utterance.end, _MILLISECONDS)
    return start, end, utterance.speaker, utterance.text, utterance.language


def _summary(renames: Sequence[RenameSpeaker], changed: int) -> str:
    parts = [f"renamed {edit.speaker} to {edit.new_name}" for edit in renames[:_SUMMARY_RENAMES]]
    if more := len(renames) - len(parts):
        parts.append(f"renamed {_counted(more, 'more speaker')}")
    if changed:
        parts.append(f"{_counted(changed, 'utterance')} changed")
    return "; ".join(parts) or "nothing changed"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
