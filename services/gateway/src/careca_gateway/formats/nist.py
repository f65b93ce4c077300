"""NIST's formats, which scoring tools read: RTTM for who spoke when, STM for who said what.

RTTM: Rich Transcription Time Marked, "The 2009 (RT-09) Rich Transcription Meeting Recognition Evaluation Plan",
appendix A. STM: Segment Time Mark, as documented by NIST's scoring toolkit SCTK.
"""

from __future__ import annotations

import re

from careca.names import as_field
from careca.types import Result
from careca_gateway.formats.header import header

_CHANNEL = 1
_UNKNOWN_SPEAKER = "UNKNOWN"


def rttm(result: Result, name: str) -> str:
    """Returns one ``SPEAKER`` line for each turn, overlapping turns included. Omits turns that round to 0 ms."""
    recording = file_id(name)
    return "".join(
        f"SPEAKER {recording} {_CHANNEL} {turn.start:.3f} {turn.end - turn.start:.3f} "
        f"<NA> <NA> {as_field(turn.speaker)} <NA> <NA>\n"
        for turn in result.turns
        if round(turn.end - turn.start, 3) > 0
    )


def stm(result: Result, name: str) -> str:
    """Returns comments with the notices, and one line for each utterance: file, channel, speaker, start, end, text."""
    recording = file_id(name)
    lines = [f";; {line}" for line in header(result)]
    for utterance in result.utterances:
        speaker = as_field(utterance.speaker or _UNKNOWN_SPEAKER)
        times = f"{utterance.start:.3f} {utterance.end:.3f}"
        lines.append(f"{recording} {_CHANNEL} {speaker} {times} {' '.join(utterance.text.split())}")
    return "".join(f"{line}\n" for line in lines)


def file_id(name: str) -> str:
    """Returns the name without folders and extension. Characters that could break a field are replaced by ``_``."""
    stem = re.sub(r"\.\w{1,5}$", "", re.split(r"[/\\]", name)[-1])
    return re.sub(r"[^\w.-]+", "_", stem).strip("_") or "recording"
