"""The result of a recording: who said what, and when."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from careca.types.audio import Channel, Digest
from careca.types.diarization import Speaker, SpeakerCountCandidate, Turn
from careca.types.stages import StageReport, StageState
from careca.types.transcript import Word


class OutputFormat(enum.StrEnum):
    """A textual form of a result."""

    JSON = "json"
    TXT = "txt"
    SRT = "srt"
    VTT = "vtt"
    TSV = "tsv"
    RTTM = "rttm"
    STM = "stm"


class NoticeCode(enum.StrEnum):
    """The kinds of notices. The meaning of a code never changes; docs/notices.md says what to do about each."""

    TRUNCATED = "TRUNCATED"
    """The recording ends earlier than its container says, or breaks off."""
    DAMAGED = "DAMAGED"
    """Damaged parts of the recording were skipped."""
    AUDIO_TRACK_CHOSEN = "AUDIO_TRACK_CHOSEN"
    """The recording has several audio tracks, and one of them was used."""
    CLIPPED = "CLIPPED"
    """The recording level was too high: its peaks are cut off."""
    VERY_QUIET = "VERY_QUIET"
    """The recording is so quiet that voices have few bits, or that it was amplified."""
    SILENT = "SILENT"
    """The recording has no sound."""
    SPEECH_WITHOUT_WORDS = "SPEECH_WITHOUT_WORDS"
    """The diarizer found speech of two seconds or more in which the transcriber found no word."""
    FEWER_SPEAKERS_THAN_ASKED = "FEWER_SPEAKERS_THAN_ASKED"
    """Fewer speakers were found than the exact or minimum number in the request."""
    SEVERAL_LANGUAGES = "SEVERAL_LANGUAGES"
    """The recording has more than one language."""
    VOICES_SKIPPED = "VOICES_SKIPPED"
    """Saved voices could not be compared with those in the recording."""
    FALLING_BEHIND = "FALLING_BEHIND"
    """A live transcript is late: the audio arrives faster than the models work. Only in live sessions."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Information about a recording that its result does not show. It is not a failure: the result is complete."""

    code: str
    """For programs: a ``NoticeCode``, or a code of a newer version."""
    message: str
    """For people: one sentence."""
    start: float | None = None
    """The time range of the notice, if it has one."""
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Utterance:
    """Consecutive words of one speaker. ``speaker`` is ``None`` if it is not known."""

    start: float
    end: float
    text: str
    speaker: str | None = None
    words: tuple[Word, ...] = ()
    language: str = ""
    """ISO 639-1 code of its language; empty if not known."""


@dataclass(frozen=True, slots=True)
class Result:
    """Who said what, and when, in one recording.

    Words, utterances and turns contain the ``Speaker.display_name``: the name of a known speaker, else the label. If a
    stage failed, its fields are empty, its report has the error, and ``partial`` is true.
    """

    recording: Digest
    audio: Digest
    """The audio; with separate channels, the audio of the first one."""
    duration: float
    stages: tuple[StageReport, ...]
    channels: tuple[Channel, ...] = ()
    """All separate channels, in the order of the recording; empty if they were mixed."""
    language: str = ""
    language_probability: float = 0.0
    utterances: tuple[Utterance, ...] = ()
    turns: tuple[Turn, ...] = ()
    exclusive_turns: tuple[Turn, ...] = ()
    speakers: tuple[Speaker, ...] = ()
    """All speakers, in order of first speech."""
    candidates: tuple[SpeakerCountCandidate, ...] = ()
    transcription_model: str = ""
    diarization_model: str = ""
    formats: Mapping[OutputFormat, str] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    """Notices by time; those about the whole recording come first."""
    revision: int = 0
    """The revision of a job's transcript; 0: what was recognised."""

    @property
    def partial(self) -> bool:
        """Whether a stage failed, so that the result lacks its part."""
        return any(report.state is StageState.FAILED for report in self.stages)
