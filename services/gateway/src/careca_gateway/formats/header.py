"""The lines at the beginning of the text formats: failed stages and notices."""

from __future__ import annotations

from careca.formatting import format_notice
from careca.types import Result, StageState


def header(result: Result) -> list[str]:
    """Returns one line for each failed stage and for each notice, without line breaks. Usually there are none."""
    failures = [
        " ".join(f"partial result: the stage {report.stage} failed: {report.error_message}".split())
        for report in result.stages
        if report.state is StageState.FAILED
    ]
    return [*failures, *map(format_notice, result.notices)]
