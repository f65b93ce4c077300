"""Whose voices they are: gives speakers the names of people who are known. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from careca.errors import InvalidRequest
from careca.types import Diarization, Speaker, Turn, Voice


class KnownVoice(NamedTuple):
    """Somebody to recognise."""

    name: str
    voice: Voice


def recognize_speakers(
    speakers: Sequence[Speaker], known: Sequence[KnownVoice], *, least_similarity: float
) -> tuple[Speaker, ...]:
    """``speakers`` in their order, those named who are as alike to somebody known as ``least_similarity`` or more.

    The most alike first: each takes a name that nobody more alike took, so that two speakers never have the same one.
    Of pairs that are equally alike the one with the earlier speaker goes first, then the one with the earlier name.
    Speakers without a voice stay unnamed. All voices must be of one model: see ``check_comparable``.
    """
    pairs = sorted(
        (-similarity, speaker, name)
        for speaker, candidate in enumerate(speakers)
        for name, (_, voice) in enumerate(known)
        if candidate.embedding and (similarity := cosine(candidate.embedding, voice.embedding)) >= least_similarity
    )
    named = list(speakers)
    free = set(range(len(known)))
    for negative, speaker, name in pairs:
        if name in free and named[speaker].name is None:
            free.remove(name)
            named[speaker] = replace(named[speaker], name=known[name].name, similarity=-negative)
    return tuple(named)


def check_comparable(speakers: Sequence[Speaker], known: Sequence[KnownVoice]) -> None:
    """Raises ``InvalidRequest`` for the first known voice that cannot be compared with those of ``speakers``."""
    heard = next((speaker.voice for speaker in speakers if speaker.voice), None)
    if heard is None:
        return
    for index, (name, voice) in enumerate(known):
        path = f"config.known_speakers[{index}].voice"
        if voice.embedding_model != heard.embedding_model:
            raise InvalidRequest(
                f"{path}.embedding_model is {voice.embedding_model}, but the diarizer's is {heard.embedding_model}: "
                f"voices of different models cannot be compared, so make that of {name} anew from a recording",
                reason="EMBEDDING_MISMATCH",
                field=f"{path}.embedding_model",
                metadata={"embedding_model": voice.embedding_model, "diarizer_model": heard.embedding_model},
            )
        if len(voice.embedding) != len(heard.embedding):
            raise InvalidRequest(
                f"{path}.embedding has {len(voice.embedding)} values, but those of {heard.embedding_model} have "
                f"{len(heard.embedding)}",
                reason="EMBEDDING_MISMATCH",
                field=f"{path}.embedding",
            )


def apply_names(diarization: Diarization) -> Diarization:
    """``diarization`` whose turns are those of names, where speakers have one."""
    names = {speaker.label: speaker.display_name for speaker in diarization.speakers}

    def renamed(turns: Sequence[Turn]) -> tuple[Turn, ...]:
        return tuple(replace(turn, speaker=names.get(turn.speaker, turn.speaker)) for turn in turns)

    return replace(diarization, turns=renamed(diarization.turns), exclusive_turns=renamed(diarization.exclusive_turns))


def nearest(speaker: Speaker, known: Sequence[KnownVoice]) -> float:
    """How alike a speaker with a voice is to the most alike of ``known``, of whom there is one at least."""
    return max(cosine(speaker.embedding, voice.embedding) for _, voice in known)


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """How alike two embeddings of unit length are, from -1 to 1."""
    return max(-1.0, min(1.0, sum(x * y for x, y in zip(one, other, strict=True))))
