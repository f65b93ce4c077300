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
    """What notices can be about. The codes never change their meaning; docs/notices.md says what to do about each."""

    TRUNCATED = "TRUNCATED"
    """The recording ends before its container says, or breaks off."""
    DAMAGED = "DAMAGED"
    """Damaged parts of the recording were skipped."""
    AUDIO_TRACK_CHOSEN = "AUDIO_TRACK_CHOSEN"
    """The recording has several audio tracks, of which one was taken."""
    CLIPPED = "CLIPPED"
    """The recording was made too loud: its peaks are cut off."""
    VERY_QUIET = "VERY_QUIET"
    """The recording is so quiet that few bits are left for voices, or that it was raised."""
    SILENT = "SILENT"
    """There is no sound in the recording."""
    SPEECH_WITHOUT_WORDS = "SPEECH_WITHOUT_WORDS"
    """The diarizer hears speech of two seconds or more where the transcriber found no word."""
    FEWER_SPEAKERS_THAN_ASKED = "FEWER_SPEAKERS_THAN_ASKED"
    """Fewer speakers were found than the exact or the least number that was asked for."""
    SEVERAL_LANGUAGES = "SEVERAL_LANGUAGES"
    """More than one language is spoken."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about a recording that its result alone does not show. It is no failure: the result is complete."""

    code: str
    """For programs: a ``NoticeCode``, or one of a newer version."""
    message: str
    """For people: one sentence."""
    start: float | None = None
    """The place it is about, where it is about one."""
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Utterance:
    """One speaker's words in a row. ``speaker`` is ``None`` where nobody could be named."""

    start: float
    end: float
    text: str
    speaker: str | None = None
    words: tuple[Word, ...] = ()
    language: str = ""
    """ISO 639-1 code of the language spoken in it; empty where that is not known."""


@dataclass(frozen=True, slots=True)
class Result:
    """Who said what, and when, in one recording.

    Words, utterances and turns name their speaker by ``Speaker.display_name``: the name of somebody known, else the
    label. A stage that failed leaves its fields empty and its report says why; ``partial`` is then true.
    """

    recording: Digest
    audio: Digest
    """The audio; that of the first channel where each was a speaker's own."""
    duration: float
    stages: tuple[StageReport, ...]
    channels: tuple[Channel, ...] = ()
    """All channels, in the recording's order, where each was a speaker's own; empty where they were mixed."""
    language: str = ""
    language_probability: float = 0.0
    utterances: tuple[Utterance, ...] = ()
    turns: tuple[Turn, ...] = ()
    exclusive_turns: tuple[Turn, ...] = ()
    speakers: tuple[Speaker, ...] = ()
    """Everybody who speaks, in order of first speech."""
    candidates: tuple[SpeakerCountCandidate, ...] = ()
    transcription_model: str = ""
    diarization_model: str = ""
    formats: Mapping[OutputFormat, str] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    """What a person should know about the recording, by place; those about all of it first."""

    @property
    def partial(self) -> bool:
        """Whether a stage failed and the rest was delivered without it."""
        return any(report.state is StageState.FAILED for report in self.stages)
