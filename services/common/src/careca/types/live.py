"""Windows of live audio: what the model services are asked, and what they find."""

from __future__ import annotations

from dataclasses import dataclass, field

from careca.types.diarization import DiarizationOptions, Turn
from careca.types.transcript import TranscriptionOptions, Word


@dataclass(frozen=True, slots=True)
class WindowToRead:
    """How the transcriber reads a window."""

    options: TranscriptionOptions = field(default_factory=TranscriptionOptions)
    final_words: tuple[str, ...] = ()
    """Final words that are spoken at the start of the window. The model continues after them."""
    previous_words: tuple[str, ...] = ()
    """What the last reading found after ``final_words``, when the window was shorter."""
    earlier_words: tuple[str, ...] = ()
    """What the reading before that one found after ``final_words``; empty if there was none."""
    last: bool = False
    """Whether the window gets no more audio: then all of its words are final."""
    likely_language: str = ""
    """The language of the audio before the window; empty if unknown."""


@dataclass(frozen=True, slots=True)
class ReadWindow:
    """What was read in a window. Times are from its start."""

    words: tuple[Word, ...] = ()
    """The words after the final ones. The first ``agreed_count`` have times."""
    agreed_count: int = 0
    """How many words are final now."""
    language: str = ""
    """Empty without speech, or if there is too little to tell."""
    speech_start: float | None = None
    """Start of the first speech; ``None`` without speech."""
    speech_end: float | None = None
    """End of the last speech; ``None`` without speech."""


@dataclass(frozen=True, slots=True)
class VoicePiece:
    """A piece of speech of one person, with its embedding. Times are from the start of its window."""

    embedding: tuple[float, ...]
    """Of unit length."""
    speech: float
    """Seconds of speech that the embedding was made of."""
    start: float = 0.0
    end: float = 0.0
    speaker: str = ""
    """The label in the turns of the window."""
    alone: bool = False
    """Whether nobody else speaks at the same time."""
    part: bool = False
    """Whether it is a part of another piece."""


@dataclass(frozen=True, slots=True)
class WindowToDiarize:
    """Asks who speaks when in a window."""

    voices_from: float = 0.0
    """Only pieces that end after this time have their voice computed: it takes most of the time of a window."""


@dataclass(frozen=True, slots=True)
class DiarizedWindow:
    """Who speaks when in a window. Times are from its start, and labels are valid in this window only."""

    turns: tuple[Turn, ...] = ()
    pieces: tuple[VoicePiece, ...] = ()
    embedding_model: str = ""


@dataclass(frozen=True, slots=True)
class VoicesToCluster:
    """Asks which pieces have the same voice."""

    pieces: tuple[VoicePiece, ...]
    options: DiarizationOptions = field(default_factory=DiarizationOptions)


@dataclass(frozen=True, slots=True)
class ClusteredVoices:
    """The number of the speaker of each piece, from 0."""

    speakers: tuple[int, ...]
