"""What was found on each channel of a recording to what is known of the whole: each channel is a speaker's own. Pure.

Sequences have one entry for each channel, in the recording's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter

from careca.turns import exclusive_turns, speaker_label
from careca.types import Diarization, Speaker, Transcript


def name_speakers(
    transcripts: Sequence[Transcript] | None, diarizations: Sequence[Diarization] | None
) -> tuple[str | None, ...]:
    """The label of each channel's speaker by order of first speech, ``None`` where nobody speaks.

    First speech is the first turn, or the first segment on a channel without turns; of two who begin together, who ends
    first comes first. ``None`` stands for what could not be found out; one of the two must be there.
    """
    turns = [[(turn.start, turn.end) for turn in each.turns] for each in diarizations or ()]
    segments = [[(part.start, part.end) for part in each.segments if part.text.strip()] for each in transcripts or ()]
    speech = [spoken or written for spoken, written in zip(turns or segments, segments or turns, strict=True)]
    speaking = sorted((min(times), channel) for channel, times in enumerate(speech) if times)
    labels = {channel: speaker_label(number) for number, (_, channel) in enumerate(speaking)}
    return tuple(labels.get(channel) for channel in range(len(speech)))


def combine(diarizations: Sequence[Diarization], speakers: Sequence[str | None]) -> Diarization:
    """The turns of all channels, each channel's being its speaker's, and their voices.

    No number of speakers was considered.
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
    """The one with the most words, whose language is called the recording's; the first of several."""
    return max(transcripts, key=_word_count)


def _word_count(transcript: Transcript) -> int:
    return sum(len(segment.words or segment.text.split()) for segment in transcript.segments)
