"""The events of a live transcript, in the order in which a session yields them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from careca.errors import Unavailable
from careca.types import Notice, Word
from careca_client.result import TranscriptionResult


class LiveEncoding(StrEnum):
    """The encodings of live audio."""

    PCM = "pcm"
    """Signed 16-bit little-endian PCM, from 8,000 to 48,000 Hz."""
    MULAW = "mulaw"
    """G.711 mu-law, 8,000 Hz."""
    ALAW = "alaw"
    """G.711 A-law, 8,000 Hz."""
    CONTAINER = "container"
    """A container as it grows, such as the WebM of a browser: also Ogg, fragmented MP4, MP3, ADTS, FLAC and WAV."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _FromGateway:
    """What all events that the gateway sends have."""

    event_number: int
    """The number of the event in the session, from 1. 0: ``LiveStarted`` and ``LiveInterim``, which are not counted."""
    audio_seconds: float
    """The event speaks of the audio up to this time from its start."""
    behind_seconds: float
    """How much audio the gateway has received after that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStarted(_FromGateway):
    """The gateway takes audio. Comes first, and again whenever the session continues after a broken connection."""

    session_id: str
    received_bytes: int
    """How many bytes of the audio the gateway has. The session sends those that follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveInterim(_FromGateway):
    """Words after the last final one, without times. They may change: the next ones replace them."""

    words: tuple[Word, ...]
    language: str
    """ISO 639-1 code of the language; empty if not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFinal(_FromGateway):
    """Words whose text and times never change."""

    words: tuple[Word, ...]
    first_word: int
    """The number of the first of these words. They are counted from 0 throughout the session."""
    language: str
    """ISO 639-1 code of the language; empty if not known."""
    channel: int | None = None
    """If channels are separate, the one on which these words were said, from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerCorrection(_FromGateway):
    """``word_count`` final words from ``first_word`` on have another speaker than was said before."""

    first_word: int
    word_count: int
    speaker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceEnd(_FromGateway):
    """An utterance has ended: there was a pause, or ``flush`` or ``end`` was called."""

    channel: int | None = None
    """If channels are separate, the one of the utterance, from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveNotice(_FromGateway):
    """Information about the session, such as ``FALLING_BEHIND``."""

    notice: Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveEnded(_FromGateway):
    """The audio has ended, and a job has its recording."""

    job_id: str
    """The id of the job. Empty if there was no audio: then there is no job, and this is the last event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveResult(_FromGateway):
    """The result of the job. It is the last event."""

    result: TranscriptionResult


@dataclass(frozen=True, slots=True)
class LiveReconnecting:
    """The connection broke. Attempt number ``attempt``, 2 or higher, follows. Nothing that was sent is lost."""

    attempt: int
    delay_seconds: float
    error: Unavailable


LiveEvent: TypeAlias = (
    LiveStarted
    | LiveInterim
    | LiveFinal
    | SpeakerCorrection
    | UtteranceEnd
    | LiveNotice
    | LiveEnded
    | LiveResult
    | LiveReconnecting
)
"""Any event of a live session."""
