"""Corrections of a transcript: edits, and the revisions that they make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from careca.types.result import Utterance


@dataclass(frozen=True, slots=True)
class ReplaceUtterances:
    """Replaces ``count`` utterances from ``index`` on. Edits texts, splits, joins, removes, inserts and reassigns.

    Words are kept if they are those of the text, and otherwise made of the text.
    """

    index: int
    count: int
    utterances: tuple[Utterance, ...] = ()


@dataclass(frozen=True, slots=True)
class RenameSpeaker:
    """Renames a speaker everywhere. With ``merge`` the name may be that of another speaker: both become one."""

    speaker: str
    """The name or the label."""
    new_name: str
    """The new name. The own label of the speaker removes its name."""
    merge: bool = False


Edit: TypeAlias = ReplaceUtterances | RenameSpeaker
"""One change of a transcript."""


@dataclass(frozen=True, slots=True)
class Splice:
    """The effect of an edit: ``removed_count`` utterances from ``index`` on were replaced by ``utterances``."""

    index: int = 0
    removed_count: int = 0
    utterances: tuple[Utterance, ...] = ()


@dataclass(frozen=True, slots=True)
class Revision:
    """A saved state of a transcript."""

    number: int
    """From 1. What was recognised is 0."""
    author: str
    """The submitter who saved it."""
    create_unix: float
    """When it was saved, in seconds since 1970."""
    summary: str
    """What was changed, for people: one line."""
    restored_from: int | None = None
    """The revision that this one restored; ``None`` if it restored none."""


@dataclass(frozen=True, slots=True)
class SavedTranscript:
    """What was saved: the new revision, and one splice for each edit. The splice of a renamed speaker is empty."""

    revision: Revision
    splices: tuple[Splice, ...]
