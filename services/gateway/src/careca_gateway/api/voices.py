"""The gRPC service for saved voices."""

from __future__ import annotations

from typing import Any

import grpc.aio

from careca import codec
from careca.errors import InvalidRequest
from careca.names import check_speaker_name
from careca.v1 import voices_pb2, voices_pb2_grpc
from careca_gateway.api.submitter import submitter_of
from careca_gateway.voices.requests import voices_off
from careca_gateway.voices.service import VoiceService

Context = grpc.aio.ServicerContext[Any, Any]


class VoiceServicer(voices_pb2_grpc.VoiceServiceServicer):
    """Keeps the voices of people for their submitters: see voices.proto.

    Args:
        voices: runs the operations; ``None`` if this gateway keeps no voices.
    """

    def __init__(self, voices: VoiceService | None) -> None:
        self._voice_service = voices

    @property
    def _voices(self) -> VoiceService:
        """Raises ``PreconditionFailed`` (JOBS_OFF) if this gateway keeps no voices."""
        if self._voice_service is None:
            raise voices_off()
        return self._voice_service

    async def SaveVoice(self, request: voices_pb2.SaveVoiceRequest, context: Context) -> voices_pb2.SaveVoiceResponse:
        """Saves a voice."""
        submitter = submitter_of(context.invocation_metadata())
        check_speaker_name(request.name, "name")
        match request.WhichOneof("source"):
            case "job_speaker":
                source = request.job_speaker
                saved = await self._voices.save_speaker(submitter, request.name, source.job_id, source.speaker_label)
            case "voice":
                saved = await self._voices.save(submitter, request.name, codec.decode_voice(request.voice, "voice"))
            case _:
                raise InvalidRequest("job_speaker or voice must be set: there is no voice to save", field="source")
        return voices_pb2.SaveVoiceResponse(voice=codec.encode_saved_voice(saved))

    async def ListVoices(
        self, request: voices_pb2.ListVoicesRequest, context: Context
    ) -> voices_pb2.ListVoicesResponse:
        """Returns the caller's voices."""
        voices = await self._voices.list(submitter_of(context.invocation_metadata()))
        return voices_pb2.ListVoicesResponse(voices=[codec.encode_saved_voice(voice) for voice in voices])

    async def DeleteVoice(
        self, request: voices_pb2.DeleteVoiceRequest, context: Context
    ) -> voices_pb2.DeleteVoiceResponse:
        """Deletes a voice."""
        submitter = submitter_of(context.invocation_metadata())
        check_speaker_name(request.name, "name")
        await self._voices.delete(submitter, request.name)
        return voices_pb2.DeleteVoiceResponse()
