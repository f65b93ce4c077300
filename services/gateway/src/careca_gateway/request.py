"""What a caller asks of the gateway, and what the gateway tells while it works on it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from careca.errors import DeadlineExceeded
from careca.types import (
    AudioTrack,
    AudioTracks,
    ChannelMode,
    DiarizationOptions,
    Digest,
    KnownSpeaker,
    OutputFormat,
    Progress,
    Segment,
    StageReport,
    TranscriptionOptions,
)

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class AudioSelection:
    """Which of a recording's sound is used. A recording may be decoded to other audio for each choice."""

    channel_mode: ChannelMode = ChannelMode.MIX
    audio_track: AudioTrack = AudioTracks.AUTO

    @property
    def separates_speakers(self) -> bool:
        """Whether there are several audios, each a speaker's own."""
        return self.channel_mode is ChannelMode.SEPARATE or self.audio_track == AudioTracks.EACH

    def __str__(self) -> str:
        """A name for files: ``mix`` or ``separate``, with the track where one was chosen, as in ``mix.2``."""
        return self.channel_mode if self.audio_track == AudioTracks.AUTO else f"{self.channel_mode}.{self.audio_track}"


@dataclass(frozen=True, slots=True)
class Request:
    """One recording to be worked on."""

    recording: Digest
    display_name: str = ""
    """The name to show in formats and logs; never used as a path."""
    transcription: TranscriptionOptions = field(default_factory=TranscriptionOptions)
    diarization: DiarizationOptions = field(default_factory=DiarizationOptions)
    skip_cache: bool = False
    formats: tuple[OutputFormat, ...] = ()
    channel_mode: ChannelMode = ChannelMode.MIX
    audio_track: AudioTrack = AudioTracks.AUTO
    known_speakers: tuple[KnownSpeaker, ...] = ()

    @property
    def sound(self) -> AudioSelection:
        """Which of the recording's sound is used."""
        return AudioSelection(self.channel_mode, self.audio_track)


@dataclass(frozen=True, slots=True)
class DiarizationRequest:
    """What a request asks of the diarize stage."""

    options: DiarizationOptions
    known: tuple[KnownSpeaker, ...] = ()
    """Whom to call by name."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When the caller stops waiting, on the clock of ``time.monotonic``; ``None`` is never."""

    at: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The deadline that many seconds from now."""
        return cls(None if seconds is None else time.monotonic() + seconds)

    def remaining(self) -> float | None:
        """Seconds left. Raises ``DeadlineExceeded`` where there are none."""
        if self.at is None:
            return None
        seconds = self.at - time.monotonic()
        if seconds <= 0:
            raise DeadlineExceeded("the deadline passed")
        return seconds

    def allows(self, seconds: float) -> bool:
        """Whether more than ``seconds`` are left."""
        return self.at is None or self.at - time.monotonic() > seconds

    def within(self, seconds: float) -> Deadline:
        """This deadline, or the one in ``seconds`` if that is sooner."""
        at = time.monotonic() + seconds
        return Deadline(at if self.at is None else min(self.at, at))

    def with_margin(self, seconds: float) -> Deadline:
        """The deadline moved by ``seconds``, but by no more than a fifth of what is left."""
        if self.at is None:
            return self
        return Deadline(self.at - min(seconds, max(self.at - time.monotonic(), 0.0) / 5))


@dataclass(frozen=True, slots=True)
class RecordingNeeded:
    """The bytes of the recording are read from now on."""


@dataclass(frozen=True, slots=True)
class RecordingKnown:
    """The recording is in the store already."""


@dataclass(frozen=True, slots=True)
class Completed(Generic[R_co]):
    """The result; the last thing that is told."""

    result: R_co
    reports: tuple[StageReport, ...]


PipelineEvent = Progress | Segment | StageReport
"""What is told while the work goes on."""
