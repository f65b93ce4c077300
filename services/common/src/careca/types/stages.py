"""The stages of a job, their progress and what became of them."""

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
    """Where a stage is, or what became of it. Results know only the last three."""

    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage has come, as a fraction from 0 to 1."""

    stage: Stage
    fraction: float


@dataclass(frozen=True, slots=True)
class StageReport:
    """What a stage did: its state, the seconds it took, whether its result came from the cache, and why it failed."""

    stage: Stage
    state: StageState
    seconds: float
    cached: bool = False
    error_reason: str = ""
    error_message: str = ""
