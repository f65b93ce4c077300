"""Formats for people and spreadsheets: text with one line for each utterance, and tab-separated values."""

from __future__ import annotations

from careca.formatting import format_time
from careca.types import Result
from careca_gateway.formats.header import header

_TSV_HEADER = "start\tend\tspeaker\ttext"


def txt(result: Result, name: str) -> str:
    """Returns one line for each utterance: ``[start - end] speaker: text``, with times as hours:minutes:seconds.

    Notices come first, in lines that begin with ``;;``.
    """
    lines = [f";; {line}" for line in header(result)]
    for utterance in result.utterances:
        speaker = f"{utterance.speaker}: " if utterance.speaker else ""
        times = f"[{format_time(utterance.start)} - {format_time(utterance.end)}]"
        lines.append(f"{times} {speaker}{' '.join(utterance.text.split())}")
    return "".join(f"{line}\n" for line in lines)


def tsv(result: Result, name: str) -> str:
    """Returns a header and one line for each utterance: start and end in milliseconds, speaker, text."""
    lines = [_TSV_HEADER]
    for utterance in result.utterances:
        start, end = round(utterance.start * 1000), round(utterance.end * 1000)
        lines.append(f"{start}\t{end}\t{utterance.speaker or ''}\t{' '.join(utterance.text.split())}")
    return "".join(f"{line}\n" for line in lines)
