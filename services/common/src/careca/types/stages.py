"""The stages of a job, their state and progress."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Stage(enum.StrEnum):
    """A step of a job, in order of execution; transcribe and diarize run at the same time."""

    DECODE = "decode"
    TRANSCRIBE = "transcribe"
    DIARIZE = "diarize"
    MERGE = "merge"


class StageState(enum.StrEnum):
    """The state of a stage. Results contain only the last three."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a stage, as a fraction from 0 to 1."""

    stage: Stage
    fraction: float


@dataclass(frozen=True, slots=True)
class StageReport:
    """The outcome of a stage: state, duration in seconds, whether the result came from the cache, and the error."""

    stage: Stage
    state: StageState
    seconds: float
    cached: bool = False
    error_reason: str = ""
    error_message: str = ""
