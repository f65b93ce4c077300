"""The text formats of a result: pure functions from ``Result`` to the content of a file.

Notices, and the failed stages of a partial result, have their own fields in JSON, and are comments at the beginning of
text, WebVTT and STM. SubRip, TSV and RTTM do not contain them: the first two have no comments, and widely used readers
of RTTM, such as pyannote's, read a comment as a turn.
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
    """Returns ``result`` in the given format. ``name`` is the recording's name to show; it is never used as a path."""
    return _RENDERERS[form](result, name)
