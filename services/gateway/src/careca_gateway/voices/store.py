"""The saved voices in the jobs' Redis. ``voices.lua`` makes every change atomically; this class calls it."""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from careca.codec.known_speakers import MAX_KNOWN_SPEAKERS
from careca.errors import NotFound, PreconditionFailed
from careca.names import as_field
from careca.types import SavedVoice, Voice
from careca_gateway.jobs.queue.redis_script import JobScript

MAX_VOICES = MAX_KNOWN_SPEAKERS
"""The maximum number of voices of one submitter: a request cannot have more."""


@dataclass(frozen=True, slots=True)
class StoredVoice:
    """A saved voice with its embedding."""

    about: SavedVoice
    voice: Voice


class VoiceStore:
    """Keeps voices for their submitters until they are deleted.

    All methods raise ``Unavailable`` (JOBS_UNAVAILABLE) if the Redis does not answer. Methods that write raise
    ``Overloaded`` (JOBS_FULL) if it has no memory left.
    """

    def __init__(self, redis_url: str, *, timeout_seconds: float = 10.0) -> None:
        """Does not connect yet. ``timeout_seconds`` is the timeout of each operation."""
        self._script = JobScript(
            redis_url, timeout_seconds=timeout_seconds, package="careca_gateway.voices", name="voices.lua"
        )

    async def close(self) -> None:
        """Closes all connections."""
        await self._script.aclose()

    async def save(self, submitter: str, stored: StoredVoice) -> None:
        """Saves the voice. Replaces the one with the same name. Raises ``PreconditionFailed`` (TOO_MANY_VOICES)."""
        name = as_field(stored.about.name)
        if not await self._script.run("save", submitter, name, _write(stored), MAX_VOICES):
            raise PreconditionFailed(
                f"you have {MAX_VOICES} saved voices, and no more are kept: delete one first",
                reason="TOO_MANY_VOICES",
                metadata={"max_voices": str(MAX_VOICES)},
            )

    async def list(self, submitter: str) -> Sequence[StoredVoice]:
        """Returns the submitter's voices, sorted by name."""
        found = map(_read, await self._script.run("list", submitter))
        return sorted(found, key=lambda each: (each.about.name.casefold(), each.about.name))

    async def delete(self, submitter: str, name: str) -> None:
        """Deletes a voice. Raises ``NotFound`` (VOICE_NOT_FOUND)."""
        if not await self._script.run("delete", submitter, as_field(name)):
            raise NotFound("no voice is saved under this name", reason="VOICE_NOT_FOUND", metadata={"name": name})


def _write(stored: StoredVoice) -> bytes:
    about = stored.about
    return json.dumps(
        {
            "name": about.name,
            "embedding_model": about.embedding_model,
            "create_unix": about.create_unix,
            "job_id": about.job_id,
            "embedding": base64.b64encode(array("f", stored.voice.embedding).tobytes()).decode(),
        },
        separators=(",", ":"),
    ).encode()


def _read(record: bytes) -> StoredVoice:
    values = json.loads(record)
    embedding = array("f")
    embedding.frombytes(base64.b64decode(values["embedding"]))
    about = SavedVoice(values["name"], values["embedding_model"], values["create_unix"], values["job_id"])
    return StoredVoice(about, Voice(tuple(embedding), about.embedding_model))
