"""What ``transcribe``, ``upload``, ``submit`` and ``watch`` tell their ``on_event`` callback while they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from careca.errors import Unavailable
from careca.types import Digest, Progress, Segment


@dataclass(frozen=True, slots=True)
class Hashing:
    """``done_bytes`` of the recording's ``total_bytes`` have been hashed."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class RecordingKnown:
    """The gateway has the recording already: nothing is uploaded."""

    recording: Digest


@dataclass(frozen=True, slots=True)
class Uploading:
    """``done_bytes`` of the recording's ``total_bytes`` have been handed over for sending; 0 when the upload begins."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Retrying:
    """The gateway could not be reached or went away: all is asked again, for the ``attempt``-th time (from 2)."""

    attempt: int
    delay_seconds: float
    error: Unavailable


Event: TypeAlias = Hashing | RecordingKnown | Uploading | Progress | Segment | Retrying
"""Anything that ``on_event`` is called with. A segment's words have no speakers yet."""

EventCallback: TypeAlias = Callable[[Event], None]
"""Called with one event at a time and never concurrently. What it raises ends the call."""
