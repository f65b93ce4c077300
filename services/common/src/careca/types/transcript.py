"""What was said, and what a caller may ask of the transcriber."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """One word with its time. ``start`` and ``end`` are ``None`` where the model gave no time."""

    text: str
    start: float | None = None
    end: float | None = None
    probability: float | None = None
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech as the transcriber cut it, with its words."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    language: str = ""
    """ISO 639-1 code of the language spoken in it; empty where that is not known."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said: segments in order of time."""

    segments: tuple[Segment, ...]
    language: str
    """ISO 639-1 code, of several languages the one in which most was said; empty where nothing was."""
    language_probability: float
    duration: float
    model: str


@dataclass(frozen=True, slots=True)
class TranscriptionOptions:
    """What a caller may ask of the transcriber."""

    language: str | None = None
    """ISO 639-1 code of the whole recording; ``None`` finds it, and anew where the recording changes it."""
    translate: bool = False
    """Translate to English instead of writing down the language spoken."""
    initial_prompt: str = ""
    """Text that the model takes as having come before: names, spelling, style."""
    hotwords: tuple[str, ...] = ()
    """Words and phrases to listen for."""
    beam_size: int = 5
    """Width of the beam search, 1 to 20; 1 is greedy and fastest."""
