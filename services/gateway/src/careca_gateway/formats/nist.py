"""The forms of NIST's evaluations, which scoring tools read: RTTM says who spoke when, STM who said what.

RTTM: Rich Transcription Time Marked, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan",
appendix A. STM: Segment Time Mark, as NIST's scoring toolkit SCTK documents it.
"""

from __future__ import annotations

import re

from careca.types import Result
from careca_gateway.formats.header import header

_CHANNEL = 1
_UNKNOWN_SPEAKER = "UNKNOWN"


def rttm(result: Result, name: str) -> str:
    """One ``SPEAKER`` line for each turn, overlapping ones included. Turns that round to no time are left out."""
    recording = file_id(name)
    return "".join(
        f"SPEAKER {recording} {_CHANNEL} {turn.start:.3f} {turn.end - turn.start:.3f} "
        f"<NA> <NA> {_as_field(turn.speaker)} <NA> <NA>\n"
        for turn in result.turns
        if round(turn.end - turn.start, 3) > 0
    )


def stm(result: Result, name: str) -> str:
    """One line for each utterance: file, channel, speaker, start, end, text; comments with the notices above them."""
    recording = file_id(name)
    lines = [f";; {line}" for line in header(result)]
    for utterance in result.utterances:
        speaker = _as_field(utterance.speaker or _UNKNOWN_SPEAKER)
        times = f"{utterance.start:.3f} {utterance.end:.3f}"
        lines.append(f"{recording} {_CHANNEL} {speaker} {times} {' '.join(utterance.text.split())}")
    return "".join(f"{line}\n" for line in lines)


def _as_field(speaker: str) -> str:
    """A speaker's name without what would end the field."""
    return "_".join(speaker.split())


def file_id(name: str) -> str:
    """The name without folders and extension, every run of characters that could break a field made ``_``."""
    stem = re.sub(r"\.\w{1,5}$", "", re.split(r"[/\\]", name)[-1])
    return re.sub(r"[^\w.-]+", "_", stem).strip("_") or "recording"
