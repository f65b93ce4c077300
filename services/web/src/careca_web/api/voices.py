"""Voices that the caller has saved, which later jobs recognise."""

from __future__ import annotations

from typing import Self

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from careca import types
from careca_web.api.router import api_router
from careca_web.sessions.callers import CallerClient


class SavedVoice(BaseModel):
    """A saved voice, without the embedding."""

    name: str
    embedding_model: str
    created: float
    job_id: str = Field(description="The job that it came from; empty if it was sent.")

    @classmethod
    def from_value(cls, voice: types.SavedVoice) -> Self:
        """Returns the voice as JSON."""
        return cls(
            name=voice.name, embedding_model=voice.embedding_model, created=voice.create_unix, job_id=voice.job_id
        )


class Voices(BaseModel):
    """All saved voices of the caller, sorted by name."""

    voices: list[SavedVoice]


class VoiceRequest(BaseModel):
    """Whose voice to save, and under which name."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=100, examples=["Ana"])
    job_id: str = Field(min_length=1, max_length=100)
    speaker: str = Field(min_length=1, max_length=100, description="Label or name.", examples=["SPEAKER_00"])


def routes() -> APIRouter:
    """Returns the endpoints under /voices."""
    router = api_router("/voices", "voices")

    @router.get("")
    async def list_voices(client: CallerClient) -> Voices:
        """Returns the saved voices."""
        return Voices(voices=[SavedVoice.from_value(voice) for voice in await client.voices()])

    @router.post("", status_code=201)
    async def save_voice(voice: VoiceRequest, client: CallerClient) -> SavedVoice:
        """Saves the voice of a speaker in the result of a job. Replaces the voice that has this name."""
        return SavedVoice.from_value(await client.save_voice(voice.name, job_id=voice.job_id, speaker=voice.speaker))

    @router.delete("/{name:path}", status_code=204)
    async def delete_voice(name: str, client: CallerClient) -> None:
        """Deletes a saved voice."""
        await client.delete_voice(name)

    return router
