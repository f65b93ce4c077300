"""The operations on saved voices for submitters."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from careca.errors import NotFound, PreconditionFailed
from careca.types import SavedVoice, Speaker, Voice
from careca_gateway.voices.store import StoredVoice, VoiceStore

SpeakersOf = Callable[[str, str], Awaitable[Iterable[Speaker]]]
"""Returns the speakers in the result of a submitter's job. Raises ``CarecaError`` if there is no such job or result."""

_MAX_LABEL_SHOWN = 100
_MAX_LABELS_SHOWN = 20


class VoiceService:
    """Saves, lists and deletes voices.

    Args:
        store: keeps the voices.
        speakers_of: returns the speakers of a job.
    """

    def __init__(self, store: VoiceStore, speakers_of: SpeakersOf) -> None:
        self._store = store
        self._speakers_of = speakers_of

    async def save(self, submitter: str, name: str, voice: Voice, job_id: str = "") -> SavedVoice:
        """Saves ``voice`` under ``name``. Raises ``PreconditionFailed`` (TOO_MANY_VOICES)."""
        about = SavedVoice(name, voice.embedding_model, round(time.time(), 6), job_id)
        await self._store.save(submitter, StoredVoice(about, voice))
        return about

    async def save_speaker(self, submitter: str, name: str, job_id: str, speaker: str) -> SavedVoice:
        """Saves the voice of the speaker in a job's result who has the label or the name ``speaker``.

        Raises ``NotFound`` (SPEAKER_NOT_FOUND), ``PreconditionFailed`` (NO_EMBEDDINGS) if the speaker has no voice, and
        what reading the result raises.
        """
        speakers = tuple(await self._speakers_of(submitter, job_id))
        found = next((each for each in speakers if speaker in (each.label, each.name)), None)
        if found is None:
            shown = ", ".join(map(_label_and_name, speakers[:_MAX_LABELS_SHOWN]))
            raise NotFound(
                f"nobody in the job's result has this label or name: it has {len(speakers)} speakers: {shown}",
                reason="SPEAKER_NOT_FOUND",
                metadata={"job_id": job_id, "speaker_label": speaker[:_MAX_LABEL_SHOWN]},
            )
        if found.voice is None:
            raise PreconditionFailed(
                f"the diarizer gave no voice of {found.display_name}: its pipeline does not support embeddings, or "
                "there is too little speech",
                reason="NO_EMBEDDINGS",
            )
        return await self.save(submitter, name, found.voice, job_id)

    async def list(self, submitter: str) -> Sequence[SavedVoice]:
        """Returns the submitter's voices, sorted by name."""
        return [each.about for each in await self._store.list(submitter)]

    async def delete(self, submitter: str, name: str) -> None:
        """Deletes the voice. Raises ``NotFound`` (VOICE_NOT_FOUND)."""
        await self._store.delete(submitter, name)


def _label_and_name(speaker: Speaker) -> str:
    return f"{speaker.label} ({speaker.name})" if speaker.name else speaker.label
