"""Combines what was found on each channel of a recording if each channel has its own speaker. Pure functions.

Sequences have one entry for each channel, in the recording's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter

from careca.turns import exclusive_turns, speaker_label
from careca.types import Diarization, Speaker, Transcript


def label_channels(
    transcripts: Sequence[Transcript] | None, diarizations: Sequence[Diarization] | None
) -> tuple[str | None, ...]:
    """Returns the label of each channel's speaker, in order of first speech; ``None`` if nobody speaks on the channel.

    First speech is the start of the first turn, or of the first segment on a channel without turns. If two speakers
    start at the same time, the one whose first turn ends earlier comes first. An argument is ``None`` if its stage
    failed; one of them must be there.
    """
    turns = [[(turn.start, turn.end) for turn in each.turns] for each in diarizations or ()]
    segments = [[(part.start, part.end) for part in each.segments if part.text.strip()] for each in transcripts or ()]
    speech = [spoken or written for spoken, written in zip(turns or segments, segments or turns, strict=True)]
    speaking = sorted((min(times), channel) for channel, times in enumerate(speech) if times)
    labels = {channel: speaker_label(number) for number, (_, channel) in enumerate(speaking)}
    return tuple(labels.get(channel) for channel in range(len(speech)))


def combine_diarizations(diarizations: Sequence[Diarization], speakers: Sequence[str | None]) -> Diarization:
    """Returns the turns of all channels, and the speakers' voices. All turns of a channel belong to its speaker.

    There are no speaker count candidates.
    """
    turns = sorted(
        (
            replace(turn, speaker=speaker)
            for diarization, speaker in zip(diarizations, speakers, strict=True)
            if speaker
            for turn in diarization.turns
        ),
        key=attrgetter("start", "end", "speaker"),
    )
    return Diarization(
        turns=tuple(turns),
        exclusive_turns=exclusive_turns(turns),
        duration=max(diarization.duration for diarization in diarizations),
        model=diarizations[0].model,
        speakers=tuple(
            sorted(
                (
                    replace(diarization.speakers[0], label=speaker) if diarization.speakers else Speaker(speaker)
                    for diarization, speaker in zip(diarizations, speakers, strict=True)
                    if speaker
                ),
                key=attrgetter("label"),
            )
        ),
    )


def main_transcript(transcripts: Sequence[Transcript]) -> Transcript:
    """Returns the transcript with the most words, or the first of several. Its language counts as the recording's."""
    return max(transcripts, key=_word_count)


def _word_count(transcript: Transcript) -> int:
    return sum(len(segment.words or segment.text.split()) for segment in transcript.segments)
