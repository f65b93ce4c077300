"""What the textual forms say above their content: which stages failed, and the result's notices."""

from __future__ import annotations

from careca.formatting import format_notice
from careca.types import Result, StageState


def header(result: Result) -> list[str]:
    """One line for each stage that failed and for each notice, without line breaks; mostly none."""
    failures = [
        " ".join(f"partial result: the stage {report.stage} failed: {report.error_message}".split())
        for report in result.stages
        if report.state is StageState.FAILED
    ]
    return [*failures, *map(format_notice, result.notices)]
