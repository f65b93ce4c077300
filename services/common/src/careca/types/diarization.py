"""The diarization (who spoke when), and the options of the diarizer."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker speaks from ``start`` to ``end``."""

    start: float
    end: float
    speaker: str


@dataclass(frozen=True, slots=True)
class SpeakerCountCandidate:
    """A number of speakers that was considered, with its silhouette score in [-1, 1]; ``None`` if undefined."""

    speaker_count: int
    silhouette_score: float | None


@dataclass(frozen=True, slots=True)
class Voice:
    """The voice of a person: an embedding of unit length, and the id of the model that computed it.

    The cosine of two embeddings is the similarity of the voices. It has no meaning between different models.
    """

    embedding: tuple[float, ...]
    embedding_model: str


@dataclass(frozen=True, slots=True)
class Speaker:
    """A speaker in a recording. ``name`` and ``similarity`` are set for a known speaker."""

    label: str
    """``SPEAKER_00``, ``SPEAKER_01`` ... in order of first speech."""
    embedding: tuple[float, ...] = ()
    """The mean voice of the speaker, of unit length; empty if the diarizer gives none."""
    embedding_model: str = ""
    """Id of the model that computed the embedding."""
    name: str | None = None
    similarity: float | None = None
    """Cosine of this voice and the voice of the known speaker."""

    @property
    def voice(self) -> Voice | None:
        """The voice of the speaker, ``None`` if not known."""
        return Voice(self.embedding, self.embedding_model) if self.embedding else None

    @property
    def display_name(self) -> str:
        """The name, or the label for an unknown speaker."""
        return self.name or self.label


@dataclass(frozen=True, slots=True)
class KnownSpeaker:
    """A person to recognise, by a voice or by a recording of that person alone, in any audio format."""

    name: str
    reference: bytes | Voice = field(repr=False)
    skip_if_incomparable: bool = False
    """Whether a voice that cannot be compared with those in the recording is skipped instead of refused."""


@dataclass(frozen=True, slots=True)
class SavedVoice:
    """A voice that the gateway keeps for its submitter, without the embedding."""

    name: str
    embedding_model: str
    """Id of the model that computed the embedding."""
    create_unix: float
    """When it was saved, in seconds since 1970."""
    job_id: str = ""
    """The job that it came from; empty if the submitter sent it."""


@dataclass(frozen=True, slots=True)
class Diarization:
    """Who spoke when.

    ``turns`` may overlap. ``exclusive_turns`` never overlap; use them to assign words to speakers. Both contain the
    speaker's label. ``speakers`` has one entry for each label in the turns, in order of first speech.
    """

    turns: tuple[Turn, ...]
    exclusive_turns: tuple[Turn, ...]
    duration: float
    model: str
    candidates: tuple[SpeakerCountCandidate, ...] = ()
    speakers: tuple[Speaker, ...] = ()


@dataclass(frozen=True, slots=True)
class DiarizationOptions:
    """The options of the diarizer; with ``None`` the diarizer decides."""

    speaker_count: int | None = None
    min_speaker_count: int | None = None
    max_speaker_count: int | None = None
