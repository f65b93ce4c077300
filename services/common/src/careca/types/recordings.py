"""What is read of a stored recording: its forms, what is known about each, and its waveform."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class RecordingForm(enum.StrEnum):
    """The form in which a recording is read."""

    ORIGINAL = "original"
    """The bytes as they were uploaded."""
    PLAYABLE = "playable"
    """The decoded audio as a WAV file, which every browser plays: 16 kHz, mono, signed 16-bit."""


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """What is known about one form of a recording."""

    size_bytes: int
    """The number of bytes of the whole form."""
    content_type: str
    """The media type, found from the bytes. ``application/octet-stream`` if it is not known."""
    browser_plays: bool
    """Whether the present versions of the common browsers play this form."""
    display_name: str
    """The name to show. It is never used as a path."""
    entity_tag: str
    """Identifies the bytes: 64 hexadecimal characters. The same tag means the same bytes."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """The peaks of one audio: for each bucket the smallest and the greatest sample as a signed byte, -128 to 127."""

    minima: bytes
    maxima: bytes


@dataclass(frozen=True, slots=True)
class Waveform:
    """The peaks of a part of a recording's audio, divided into buckets of the same duration."""

    bucket_seconds: float
    """Duration of one bucket. The last one may be shorter."""
    start: float
    """Start of the first bucket, in seconds from the start of the recording."""
    audio_seconds: float
    """Duration of the whole audio."""
    channels: tuple[Peaks, ...]
    """One for each audio: several if channels or tracks were decoded separately. All have as many buckets."""
