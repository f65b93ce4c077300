"""The client's calls for saved voices."""

from __future__ import annotations

from careca import codec
from careca.types import SavedVoice, Voice
from careca.v1 import voices_pb2, voices_pb2_grpc
from careca_client.admin import ADMIN_TIMEOUT_SECONDS
from careca_client.aio.calls import AsyncCalls
from careca_client.speakers import encode_save_voice


class AsyncVoiceCalls(AsyncCalls):
    """The gateway keeps voices for the client's submitter until they are deleted.

    ``transcribe`` and ``submit`` recognise them with ``use_saved_voices=True``.
    """

    _voices: voices_pb2_grpc.VoiceServiceAsyncStub

    async def save_voice(
        self,
        name: str,
        *,
        job_id: str | None = None,
        speaker: str | None = None,
        voice: Voice | None = None,
        timeout: float = ADMIN_TIMEOUT_SECONDS,
    ) -> SavedVoice:
        """Saves the voice of a person under ``name``. Replaces the voice that has this name.

        Args:
            name: 1 to 100 characters without line breaks. Must not look like a label (``SPEAKER_00``).
            job_id: A job that has succeeded.
            speaker: Who of that job's result: the label, such as ``SPEAKER_00``, or the name.
            voice: A voice from an earlier result, instead of a job.
            timeout: Limit for the call in seconds.

        Raises ``NotFound`` if there is no such job (``JOB_NOT_FOUND``) or speaker (``SPEAKER_NOT_FOUND``),
        ``PreconditionFailed`` if there are 50 voices already (``TOO_MANY_VOICES``) or the speaker has no voice
        (``NO_EMBEDDINGS``).
        """
        request = encode_save_voice(name, voice, job_id, speaker)
        response = await self._call(self._voices.SaveVoice, request, timeout)
        return codec.decode_saved_voice(response.voice)

    async def voices(self, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> tuple[SavedVoice, ...]:
        """Returns the saved voices, sorted by name."""
        response = await self._query(self._voices.ListVoices, voices_pb2.ListVoicesRequest(), timeout)
        return tuple(codec.decode_saved_voice(voice) for voice in response.voices)

    async def delete_voice(self, name: str, *, timeout: float = ADMIN_TIMEOUT_SECONDS) -> None:
        """Deletes a saved voice. Raises ``NotFound`` (``VOICE_NOT_FOUND``)."""
        await self._call(self._voices.DeleteVoice, voices_pb2.DeleteVoiceRequest(name=name), timeout)
