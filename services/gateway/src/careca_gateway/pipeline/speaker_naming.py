"""Gives speakers the names of known people whose voices are similar. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from careca.errors import InvalidRequest
from careca.types import Diarization, Speaker, Turn, Voice


class KnownVoice(NamedTuple):
    """A person to recognize."""

    name: str
    voice: Voice
    skip_if_incomparable: bool = False
    """Whether it is left out, instead of refused, if it cannot be compared with the voices in the recording."""


def recognize_speakers(
    speakers: Sequence[Speaker], known: Sequence[KnownVoice], *, least_similarity: float
) -> tuple[Speaker, ...]:
    """Returns ``speakers`` in the same order. Speakers get a name if their voice is similar enough to a known one.

    The most similar pair comes first, and each name is used once, so that two speakers never have the same name. Of
    equally similar pairs, the one with the earlier speaker comes first, then the one with the earlier name. Speakers
    without a voice stay unnamed. All voices must come from one model: see ``check_comparable``.

    Args:
        speakers: the speakers of a recording.
        known: the people to recognize.
        least_similarity: the minimum cosine similarity of a pair.
    """
    pairs = sorted(
        (-similarity, speaker, name)
        for speaker, candidate in enumerate(speakers)
        for name, each in enumerate(known)
        if candidate.embedding
        and (similarity := cosine_similarity(candidate.embedding, each.voice.embedding)) >= least_similarity
    )
    named = list(speakers)
    free = set(range(len(known)))
    for negative, speaker, name in pairs:
        if name in free and named[speaker].name is None:
            free.remove(name)
            named[speaker] = replace(named[speaker], name=known[name].name, similarity=-negative)
    return tuple(named)


def check_comparable(speakers: Sequence[Speaker], known: Sequence[KnownVoice]) -> None:
    """Raises ``InvalidRequest`` for the first known voice that cannot be compared with the voices of ``speakers``.

    Voices that may be skipped are ignored.
    """
    found = _first_voice(speakers)
    if found is None:
        return
    for index, (name, voice, skip) in enumerate(known):
        if skip:
            continue
        path = f"config.known_speakers[{index}].voice"
        if voice.embedding_model != found.embedding_model:
            raise InvalidRequest(
                f"{path}.embedding_model is {voice.embedding_model}, but the diarizer's is {found.embedding_model}: "
                f"voices of different models cannot be compared, so create the voice of {name} again from a recording",
                reason="EMBEDDING_MISMATCH",
                field=f"{path}.embedding_model",
                metadata={"embedding_model": voice.embedding_model, "diarizer_model": found.embedding_model},
            )
        if len(voice.embedding) != len(found.embedding):
            raise InvalidRequest(
                f"{path}.embedding has {len(voice.embedding)} values, but those of {found.embedding_model} have "
                f"{len(found.embedding)}",
                reason="EMBEDDING_MISMATCH",
                field=f"{path}.embedding",
            )


def incomparable(speakers: Sequence[Speaker], known: Sequence[KnownVoice]) -> frozenset[str]:
    """Returns the names of the known voices to skip: they cannot be compared with the voices of ``speakers``.

    These are all that may be skipped if there are speakers and none of them has a voice.
    """
    found = _first_voice(speakers)
    return frozenset(
        each.name
        for each in known
        if each.skip_if_incomparable and speakers and not (found and _are_comparable(each.voice, found))
    )


def _first_voice(speakers: Sequence[Speaker]) -> Voice | None:
    return next((speaker.voice for speaker in speakers if speaker.voice), None)


def _are_comparable(one: Voice, other: Voice) -> bool:
    return one.embedding_model == other.embedding_model and len(one.embedding) == len(other.embedding)


def apply_names(diarization: Diarization) -> Diarization:
    """Returns ``diarization`` with the speakers' names in its turns."""
    names = {speaker.label: speaker.display_name for speaker in diarization.speakers}

    def renamed(turns: Sequence[Turn]) -> tuple[Turn, ...]:
        return tuple(replace(turn, speaker=names.get(turn.speaker, turn.speaker)) for turn in turns)

    return replace(diarization, turns=renamed(diarization.turns), exclusive_turns=renamed(diarization.exclusive_turns))


def best_similarity(speaker: Speaker, known: Sequence[KnownVoice]) -> float:
    """Returns the similarity of the speaker's voice to the most similar of ``known``, which must not be empty."""
    return max(cosine_similarity(speaker.embedding, each.voice.embedding) for each in known)


def cosine_similarity(one: Sequence[float], other: Sequence[float]) -> float:
    """Returns the cosine similarity of two embeddings of unit length, from -1 to 1."""
    return max(-1.0, min(1.0, sum(x * y for x, y in zip(one, other, strict=True))))
