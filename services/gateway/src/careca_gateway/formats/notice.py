"""What the textual forms say about a result of which a stage is missing."""

from __future__ import annotations

from careca.types import Result, StageState


def notices(result: Result) -> list[str]:
    """One line for each stage that failed, without line breaks; none for a complete result."""
    return [
        " ".join(f"partial result: the stage {report.stage} failed: {report.error_message}".split())
        for report in result.stages
        if report.state is StageState.FAILED
    ]
