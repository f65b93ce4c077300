"""The transcript, and the options of the transcriber."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """One word with its time. ``start`` and ``end`` are ``None`` if the model gave no time."""

    text: str
    start: float | None = None
    end: float | None = None
    probability: float | None = None
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of speech, as the transcriber divided it, with its words."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    language: str = ""
    """ISO 639-1 code of its language; empty if not known."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said: segments by time."""

    segments: tuple[Segment, ...]
    language: str
    """ISO 639-1 code; of several languages the one that is spoken longest; empty without speech."""
    language_probability: float
    duration: float
    model: str


@dataclass(frozen=True, slots=True)
class TranscriptionOptions:
    """The options of the transcriber."""

    language: str | None = None
    """ISO 639-1 code of the whole recording. ``None`` detects it, also when the language changes."""
    translate: bool = False
    """Translate to English instead of transcribing in the spoken language."""
    initial_prompt: str = ""
    """Text that the model treats as preceding the recording: for names, spelling and style."""
    hotwords: tuple[str, ...] = ()
    """Words and phrases that are likely to occur."""
    beam_size: int = 5
    """Width of the beam search, 1 to 20; 1 is greedy and fastest."""
