"""Who spoke when, and what a caller may ask of the diarizer."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker talking from ``start`` to ``end``."""

    start: float
    end: float
    speaker: str


@dataclass(frozen=True, slots=True)
class SpeakerCountCandidate:
    """A number of speakers that was considered, with its silhouette score in [-1, 1]; ``None`` where undefined."""

    speaker_count: int
    silhouette_score: float | None


@dataclass(frozen=True, slots=True)
class Voice:
    """What somebody sounds like: an embedding of unit length, and the id of the model that made it.

    Cosines of embeddings say how alike two voices are, and mean nothing between different models.
    """

    embedding: tuple[float, ...]
    embedding_model: str


@dataclass(frozen=True, slots=True)
class Speaker:
    """Somebody who speaks in a recording. ``name`` and ``similarity`` are set where it is somebody known."""

    label: str
    """``SPEAKER_00``, ``SPEAKER_01`` ... in order of first speech."""
    embedding: tuple[float, ...] = ()
    """Of the speaker's mean voice, of unit length; empty where the diarizer gives none."""
    embedding_model: str = ""
    """Id of the model that made the embedding."""
    name: str | None = None
    similarity: float | None = None
    """Cosine of this voice and that of the known speaker."""

    @property
    def voice(self) -> Voice | None:
        """What the speaker sounds like, ``None`` where that is not known."""
        return Voice(self.embedding, self.embedding_model) if self.embedding else None

    @property
    def display_name(self) -> str:
        """The name, or the label of somebody who is not known."""
        return self.name or self.label


@dataclass(frozen=True, slots=True)
class KnownSpeaker:
    """Somebody to recognise, by a recording of that person alone, whatever its container, or by a voice."""

    name: str
    reference: bytes | Voice = field(repr=False)


@dataclass(frozen=True, slots=True)
class Diarization:
    """Who spoke when.

    ``turns`` may overlap, as people do; ``exclusive_turns`` never do and are the ones to give words to speakers by.
    Both name their speaker by the label. ``speakers`` has one entry for each label in the turns, in order of first
    speech.
    """

    turns: tuple[Turn, ...]
    exclusive_turns: tuple[Turn, ...]
    duration: float
    model: str
    candidates: tuple[SpeakerCountCandidate, ...] = ()
    speakers: tuple[Speaker, ...] = ()


@dataclass(frozen=True, slots=True)
class DiarizationOptions:
    """What a caller may ask of the diarizer; ``None`` leaves it to the diarizer."""

    speaker_count: int | None = None
    min_speaker_count: int | None = None
    max_speaker_count: int | None = None
