"""The list of speakers while a transcript is corrected: new speakers, and other names. Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from careca.errors import InvalidRequest
from careca.names import as_field, check_speaker_name, is_label
from careca.turns import speaker_label
from careca.types import RenameSpeaker, Result, Speaker, Turn, Utterance, Word
from careca_gateway.corrections.limits import MAX_SPEAKERS
from careca_gateway.corrections.turns import joined

MAX_LABEL = 999
"""The greatest number in the label of a new speaker."""

_SHOWN = 10
_SHOWN_CHARACTERS = 100


def find(speakers: Sequence[Speaker], name: str) -> Speaker | None:
    """Returns the speaker with this name, or with this label."""
    by_name = (speaker for speaker in speakers if speaker.display_name == name)
    by_label = (speaker for speaker in speakers if speaker.label == name)
    return next(by_name, None) or next(by_label, None)


def new_speaker(speakers: Sequence[Speaker], name: str, field: str) -> Speaker:
    """Returns another speaker of this name, or with this label if it is one.

    Raises ``InvalidRequest`` if nobody may have this name.
    """
    if len(speakers) >= MAX_SPEAKERS:
        raise InvalidRequest(
            f"{field} is new, but the transcript has {len(speakers)} speakers; at most {MAX_SPEAKERS} are accepted",
            field=field,
        )
    if is_label(name):
        if name not in map(speaker_label, range(MAX_LABEL + 1)):
            raise InvalidRequest(
                f"{field} is {name[:_SHOWN_CHARACTERS]}, which is no speaker of this transcript and no label: "
                f"the speakers are {_listed(speakers)}",
                field=field,
                reason="NO_SUCH_SPEAKER",
            )
        return Speaker(name)
    _check_new_name(name, speakers, field)
    labels = {speaker.label for speaker in speakers}
    unused = next(label for label in map(speaker_label, range(len(labels) + 1)) if label not in labels)
    return Speaker(unused, name=name)


def rename(result: Result, edits: Iterable[tuple[RenameSpeaker, str]]) -> Result:
    """Returns ``result`` with other names of speakers, everywhere. Each edit comes with the path of its field.

    Raises ``InvalidRequest``.
    """
    speakers = result.speakers
    labels = {speaker.label: speaker.label for speaker in speakers}
    for edit, field in edits:
        speakers, old, new = _renamed(speakers, edit, field)
        labels = {before: new if after == old else after for before, after in labels.items()}
    shown = {speaker.label: speaker.display_name for speaker in speakers}
    names = {speaker.display_name: shown[labels[speaker.label]] for speaker in result.speakers}
    renamed = _with_names(replace(result, speakers=speakers), {old: new for old, new in names.items() if old != new})
    for name in (name for name, count in Counter(names.values()).items() if count > 1):
        turns, exclusive = joined(renamed.turns, name), joined(renamed.exclusive_turns, name)
        renamed = replace(renamed, turns=turns, exclusive_turns=exclusive)
    return renamed


def _renamed(speakers: tuple[Speaker, ...], edit: RenameSpeaker, field: str) -> tuple[tuple[Speaker, ...], str, str]:
    """Returns the speakers after one rename, and the label of the renamed one before and after it."""
    speaker = find(speakers, edit.speaker)
    if speaker is None:
        raise InvalidRequest(
            f"{field}.speaker_label is {edit.speaker[:_SHOWN_CHARACTERS]!r}, but the speakers are {_listed(speakers)}",
            field=f"{field}.speaker_label",
            reason="NO_SUCH_SPEAKER",
        )
    others = tuple(each for each in speakers if each is not speaker)
    if other := next((each for each in others if each.display_name == edit.new_name), None):
        if not edit.merge:
            raise InvalidRequest(
                f"{field}.new_name is {edit.new_name}, which another speaker has: set merge if they are one person",
                field=f"{field}.new_name",
                reason="SPEAKER_EXISTS",
                metadata={"speaker": edit.new_name},
            )
        return others, speaker.label, other.label
    name = None if edit.new_name == speaker.label else edit.new_name
    if name is not None:
        _check_new_name(name, others, f"{field}.new_name")
    named = replace(speaker, name=name, similarity=None if name != speaker.name else speaker.similarity)
    return tuple(named if each is speaker else each for each in speakers), speaker.label, speaker.label


def _with_names(result: Result, names: Mapping[str | None, str]) -> Result:
    """Returns ``result`` with these new names for old ones in utterances, words, turns and channels."""

    def renamed(turns: Sequence[Turn]) -> tuple[Turn, ...]:
        return tuple(replace(turn, speaker=names.get(turn.speaker, turn.speaker)) for turn in turns)

    return replace(
        result,
        utterances=tuple(_said_by(utterance, names.get(utterance.speaker)) for utterance in result.utterances),
        turns=renamed(result.turns),
        exclusive_turns=renamed(result.exclusive_turns),
        channels=tuple(
            replace(channel, speaker=names.get(channel.speaker, channel.speaker)) for channel in result.channels
        ),
    )


def _said_by(utterance: Utterance, speaker: str | None) -> Utterance:
    """Returns the utterance with another speaker; with ``None`` as it is."""
    if speaker is None:
        return utterance
    words = tuple(Word(word.text, word.start, word.end, word.probability, speaker) for word in utterance.words)
    return replace(utterance, speaker=speaker, words=words)


def _check_new_name(name: str, others: Sequence[Speaker], field: str) -> None:
    check_speaker_name(name, field)
    taken = {as_field(own) for other in others for own in (other.label, other.display_name)}
    if as_field(name) in taken:
        raise InvalidRequest(
            f"{field} is {name}, which differs from the name of another speaker only in spaces", field=field
        )


def _listed(speakers: Sequence[Speaker]) -> str:
    shown = ", ".join(speaker.display_name for speaker in speakers[:_SHOWN]) or "none"
    return f"{shown} and {len(speakers) - _SHOWN} more" if len(speakers) > _SHOWN else shown
