"""The values of a request: what the caller wants, the deadline, and the events until the result."""

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

ONE_SPEAKER = DiarizationOptions(speaker_count=1)
"""The diarizer's options for a channel or a track that has its own speaker."""

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class AudioSelection:
    """Which audio of a recording is used. Each selection of a recording is decoded and stored separately."""

    channel_mode: ChannelMode = ChannelMode.MIX
    audio_track: AudioTrack = AudioTracks.AUTO

    @property
    def separates_speakers(self) -> bool:
        """Whether the recording is decoded to several audios with one speaker in each."""
        return self.channel_mode is ChannelMode.SEPARATE or self.audio_track == AudioTracks.EACH

    def __str__(self) -> str:
        """Returns a part of a file name: ``mix`` or ``separate``; with the track if one was chosen, as in ``mix.2``."""
        return self.channel_mode if self.audio_track == AudioTracks.AUTO else f"{self.channel_mode}.{self.audio_track}"


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller wants to know about one recording."""

    recording: Digest
    display_name: str = ""
    """The name to show in formats and logs. It is never used as a path."""
    transcription: TranscriptionOptions = field(default_factory=TranscriptionOptions)
    diarization: DiarizationOptions = field(default_factory=DiarizationOptions)
    skip_cache: bool = False
    formats: tuple[OutputFormat, ...] = ()
    channel_mode: ChannelMode = ChannelMode.MIX
    audio_track: AudioTrack = AudioTracks.AUTO
    known_speakers: tuple[KnownSpeaker, ...] = ()

    @property
    def selection(self) -> AudioSelection:
        """Which audio of the recording is used."""
        return AudioSelection(self.channel_mode, self.audio_track)


@dataclass(frozen=True, slots=True)
class DiarizationRequest:
    """The input of the diarize stage in addition to the audio."""

    options: DiarizationOptions
    known_speakers: tuple[KnownSpeaker, ...] = ()
    """The people to recognize."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When the caller stops waiting, on the clock of ``time.monotonic``. ``None`` means that there is no deadline."""

    at: float | None = None

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """Returns the deadline in ``seconds`` from now."""
        return cls(None if seconds is None else time.monotonic() + seconds)

    def remaining(self) -> float | None:
        """Returns the seconds that are left. Raises ``DeadlineExceeded`` if the deadline has passed."""
        if self.at is None:
            return None
        seconds = self.at - time.monotonic()
        if seconds <= 0:
            raise DeadlineExceeded("the deadline passed")
        return seconds

    def allows(self, seconds: float) -> bool:
        """Returns whether more than ``seconds`` are left."""
        return self.at is None or self.at - time.monotonic() > seconds

    def within(self, seconds: float) -> Deadline:
        """Returns this deadline, or the one in ``seconds`` from now if that is sooner."""
        at = time.monotonic() + seconds
        return Deadline(at if self.at is None else min(self.at, at))

    def with_margin(self, seconds: float) -> Deadline:
        """Returns a deadline that is earlier by ``seconds``, but by no more than a fifth of the remaining time."""
        if self.at is None:
            return self
        return Deadline(self.at - min(seconds, max(self.at - time.monotonic(), 0.0) / 5))


@dataclass(frozen=True, slots=True)
class RecordingNeeded:
    """Event: the store does not have the recording, and its bytes are read from now on."""


@dataclass(frozen=True, slots=True)
class RecordingKnown:
    """Event: the store already has the recording."""


@dataclass(frozen=True, slots=True)
class Completed(Generic[R_co]):
    """Event: the request has a result. It is the last event."""

    result: R_co
    reports: tuple[StageReport, ...]


PipelineEvent = Progress | Segment | StageReport
"""An event while the pipeline runs."""
