"""The textual forms of a result: pure functions from ``Result`` to text, ready to be written to a file.

What a person should know, the result's notices and that it is partial, stands in JSON's own fields and above the
content of text, WebVTT and STM as comments. SubRip, TSV and RTTM have none: the first two know no comments, and widely
used readers of RTTM, pyannote's among them, take a comment for a turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from careca.types import OutputFormat, Result
from careca_gateway.formats.json import json_text
from careca_gateway.formats.nist import rttm, stm
from careca_gateway.formats.plain import tsv, txt
from careca_gateway.formats.subtitles import srt, vtt

_RENDERERS: Mapping[OutputFormat, Callable[[Result, str], str]] = {
    OutputFormat.JSON: json_text,
    OutputFormat.TXT: txt,
    OutputFormat.SRT: srt,
    OutputFormat.VTT: vtt,
    OutputFormat.TSV: tsv,
    OutputFormat.RTTM: rttm,
    OutputFormat.STM: stm,
}


def render(result: Result, form: OutputFormat, name: str) -> str:
    """``result`` in the given form; ``name`` is the recording's name to show, never used as a path."""
    return _RENDERERS[form](result, name)
