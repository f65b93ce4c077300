"""Audio, and the options for its channels and tracks."""

from __future__ import annotations

import enum
from dataclasses import dataclass

SAMPLE_RATE = 16_000
"""Samples per second of all decoded audio."""

SAMPLE_BYTES = 2
"""Bytes per sample: signed 16-bit little-endian."""


@dataclass(frozen=True, slots=True)
class Digest:
    """Identifies bytes by their content: lower-case hexadecimal SHA-256 and length."""

    sha256: str
    size_bytes: int


class ChannelMode(enum.StrEnum):
    """How the channels of a recording are used."""

    MIX = "mix"
    """They are mixed into one audio, and speakers are distinguished by their voices."""
    SEPARATE = "separate"
    """Each channel is one speaker, and is transcribed separately."""


class AudioTracks(enum.StrEnum):
    """Which of several audio tracks of a recording are used."""

    AUTO = "auto"
    """One track: the default track, else the first; if that track is silent, the first one that is not."""
    ALL = "all"
    """All tracks, mixed into one audio."""
    EACH = "each"
    """All tracks. Each is one speaker, and is transcribed separately, like a separate channel."""


AudioTrack = AudioTracks | int
"""Which audio tracks are used, or the number of one track: from 1, counting audio tracks only."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel or track of a recording, decoded to its own audio. ``speaker`` is ``None`` if nobody speaks."""

    audio: Digest
    speaker: str | None = None
