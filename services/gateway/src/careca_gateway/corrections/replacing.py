"""Replaces utterances: checks the new ones, makes their words, and adds new speakers. Pure functions."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace

from careca import languages
from careca.errors import InvalidRequest
from careca.formatting import format_time
from careca.types import ReplaceUtterances, Result, Splice, Utterance
from careca_gateway.corrections.alignment import Sources, words_of
from careca_gateway.corrections.limits import MAX_TEXT_CHARACTERS
from careca_gateway.corrections.speakers import find, new_speaker

ROUNDING_SECONDS = 0.001
"""An utterance may end this long after the recording: times in JSON are rounded."""


def replace_utterances(result: Result, edit: ReplaceUtterances, field: str) -> tuple[Result, Splice]:
    """Returns ``result`` with other utterances and the same turns, and what was replaced. Raises ``InvalidRequest``."""
    most = len(result.utterances)
    if not (0 <= edit.index <= most and 0 <= edit.count <= most - edit.index):
        raise InvalidRequest(
            f"{field} replaces {edit.count} utterances from index {edit.index} on, but there are {most} utterances",
            field=f"{field}.index",
        )
    last = edit.index + edit.count
    removed = result.utterances[edit.index : last]
    end = max((result.duration, *(utterance.end for utterance in result.utterances))) + ROUNDING_SECONDS
    speakers = result.speakers
    sources = Sources(removed)
    added = []
    for index, utterance in enumerate(edit.utterances):
        path = f"{field}.utterances[{index}]"
        checked = _checked(utterance, end, path)
        if checked.speaker is not None:
            speaker = find(speakers, checked.speaker)
            if speaker is None:
                speaker = new_speaker(speakers, checked.speaker, f"{path}.speaker_label")
                speakers = (*speakers, speaker)
            checked = replace(checked, speaker=speaker.display_name)
        added.append(replace(checked, words=words_of(checked, sources)))
    utterances = (*result.utterances[: edit.index], *added, *result.utterances[last:])
    _check_order(utterances, range(edit.index, edit.index + len(added) + 1), field)
    return replace(result, utterances=utterances, speakers=speakers), Splice(edit.index, edit.count, tuple(added))


def _checked(utterance: Utterance, most_seconds: float, field: str) -> Utterance:
    """Returns the utterance with single spaces in its text. Raises ``InvalidRequest``."""
    if not 0 <= utterance.start <= utterance.end <= most_seconds:
        raise InvalidRequest(
            f"{field} is from {utterance.start:.3f} s to {utterance.end:.3f} s, but must start before it ends, and lie "
            f"within the {most_seconds:.3f} s of the recording",
            field=f"{field}.start_offset",
        )
    text = " ".join(utterance.text.split())
    if not text:
        raise InvalidRequest(f"{field}.text must not be empty: remove the utterance instead", field=f"{field}.text")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InvalidRequest(
            f"{field}.text has {len(text)} characters; at most {MAX_TEXT_CHARACTERS} are accepted: split the utterance",
            field=f"{field}.text",
        )
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise InvalidRequest(f"{field}.text must not contain control characters", field=f"{field}.text")
    _check_probabilities((word.probability for word in utterance.words), field)
    return replace(utterance, text=text, language=_language(utterance.language, f"{field}.language_code"))


def _check_probabilities(probabilities: Iterable[float | None], field: str) -> None:
    for index, probability in enumerate(probabilities):
        if probability is not None and not 0 <= probability <= 1:
            raise InvalidRequest(
                f"{field}.words[{index}].probability must be from 0 to 1, but is {probability}",
                field=f"{field}.words[{index}].probability",
            )


def _language(text: str, field: str) -> str:
    code = languages.code_of(text) if text else ""
    if code is None:
        raise InvalidRequest(
            f"{field} is {text[:40]!r}, which is not a known language: use a code such as pt",
            field=field,
            reason="UNKNOWN_LANGUAGE",
        )
    return code


def _check_order(utterances: Sequence[Utterance], indices: Iterable[int], field: str) -> None:
    """Raises ``InvalidRequest`` if an utterance at one of ``indices`` starts before the utterance before it."""
    for index in indices:
        if 0 < index < len(utterances) and utterances[index].start < utterances[index - 1].start:
            start, before = (format_time(utterances[each].start) for each in (index, index - 1))
            raise InvalidRequest(
                f"{field}: utterance {index} would start at {start}, before utterance {index - 1} at {before}: "
                "utterances must stay sorted by start",
                field=f"{field}.utterances",
            )
