"""The textual forms of a result: pure functions from ``Result`` to text, ready to be written to a file.

A partial result says so wherever the form has room for a comment: in JSON, text, WebVTT and STM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from careca.types import OutputFormat, Result
from careca_gateway.formats.nist import rttm, stm
from careca_gateway.formats.plain import tsv, txt
from careca_gateway.formats.structured import json_text
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
