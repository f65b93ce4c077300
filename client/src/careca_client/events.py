"""The events that ``transcribe``, ``upload``, ``submit`` and ``watch`` pass to their ``on_event`` callback."""

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
    """The gateway already has the recording: nothing is uploaded."""

    recording: Digest


@dataclass(frozen=True, slots=True)
class Uploading:
    """``done_bytes`` of the recording's ``total_bytes`` have been passed to gRPC; 0 when the upload begins."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Retrying:
    """The gateway could not be reached or went away. Attempt number ``attempt``, 2 or higher, follows."""

    attempt: int
    delay_seconds: float
    error: Unavailable


Event: TypeAlias = Hashing | RecordingKnown | Uploading | Progress | Segment | Retrying
"""Any event. The words of a segment have no speakers yet."""

EventCallback: TypeAlias = Callable[[Event], None]
"""Called with one event at a time, never concurrently. An exception that it raises ends the call."""
