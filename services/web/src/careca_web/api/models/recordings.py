"""The JSON of recordings and uploads."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field

from careca import types

SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
"""A digest for examples."""


class Recording(BaseModel):
    """The digest of a recording: of the bytes of the file, in any container."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 in lower case.", examples=[SHA256])
    size_bytes: int = Field(ge=1, le=2**63 - 1, description="Number of bytes.", examples=[2_345_678])

    @classmethod
    def from_value(cls, digest: types.Digest) -> Self:
        """Returns the digest as JSON."""
        return cls(sha256=digest.sha256, size_bytes=digest.size_bytes)

    def value(self) -> types.Digest:
        """Returns the digest."""
        return types.Digest(self.sha256, self.size_bytes)


class StoredRecording(BaseModel):
    """A recording that the gateway has."""

    recording: Recording
    name: str = Field(description="The name of the file, for the name of a job.", examples=["call.wav"])


class RecordingPresence(BaseModel):
    """Whether the gateway has a recording."""

    stored: bool = Field(description="If false, the recording must be uploaded before a job is submitted.")
