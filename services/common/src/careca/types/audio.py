"""Audio and what a caller may ask of its channels and tracks."""

from __future__ import annotations

import enum
from dataclasses import dataclass

SAMPLE_RATE = 16_000
"""Samples per second of all decoded audio."""

SAMPLE_BYTES = 2
"""Bytes per sample: signed 16-bit little-endian."""


@dataclass(frozen=True, slots=True)
class Digest:
    """Names bytes by their content: lower-case hexadecimal SHA-256 and length."""

    sha256: str
    size_bytes: int


class ChannelMode(enum.StrEnum):
    """What becomes of the channels of a recording."""

    MIX = "mix"
    """They are mixed into one audio, and speakers are told apart by their voices."""
    SEPARATE = "separate"
    """Each is a speaker's own, transcribed apart from the others."""


class AudioTracks(enum.StrEnum):
    """Which of several audio tracks of a recording are used."""

    AUTO = "auto"
    """One of them: the one that is marked as default, or the first, unless it is silent; then the first that is not."""
    ALL = "all"
    """All of them, mixed into one audio."""
    EACH = "each"
    """All of them, each a speaker's own, transcribed apart from the others as separate channels are."""


AudioTrack = AudioTracks | int
"""Which audio tracks are used, or the number of one: from 1, audio tracks only."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel or track of a recording, decoded to its own audio. ``speaker`` is ``None`` where nobody speaks."""

    audio: Digest
    speaker: str | None = None
