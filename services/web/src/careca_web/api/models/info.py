"""The JSON that describes the system."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field

import careca_client
from careca import languages, types


class Language(BaseModel):
    """A language that can be transcribed."""

    code: str = Field(examples=["pt"])
    name: str = Field(description="Its English name.", examples=["Portuguese"])


class Info(BaseModel):
    """What the gateway serves."""

    version: str
    requires_token: bool
    takes_jobs: bool
    transcription_model: str = Field(description="Ids of the models; empty if no transcriber can be reached.")
    diarization_model: str = Field(description="Ids of the models; empty if no diarizer can be reached.")
    max_recording_bytes: int = Field(description="Greatest size of a recording that the caller may send.")
    max_audio_seconds: float
    formats: list[types.OutputFormat] = Field(description="The formats of results.")
    languages: list[Language]

    @classmethod
    def from_value(cls, info: careca_client.GatewayInfo) -> Self:
        """Returns the description as JSON."""
        return cls(
            version=info.version,
            requires_token=info.requires_token,
            takes_jobs=info.takes_jobs,
            transcription_model=info.transcription_model,
            diarization_model=info.diarization_model,
            max_recording_bytes=info.max_recording_bytes,
            max_audio_seconds=info.max_audio_seconds,
            formats=list(types.OutputFormat),
            languages=[Language(code=code, name=name) for code, name in languages.names().items()],
        )
