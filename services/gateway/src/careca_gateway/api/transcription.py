"""The gRPC service for transcription calls, and for what the gateway serves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc.aio

from careca import codec
from careca.auth.caller import Role
from careca.rpc.upload_stream import open_upload
from careca.types import Progress, Segment
from careca.v1 import gateway_pb2, gateway_pb2_grpc
from careca_gateway.api.submitter import submitter_of
from careca_gateway.info import InfoService
from careca_gateway.pipeline.port import RunPipeline
from careca_gateway.request import Completed, Deadline, RecordingKnown, RecordingNeeded
from careca_gateway.request_codec import decode_request
from careca_gateway.transcription import TranscriptionService

Context = grpc.aio.ServicerContext[Any, Any]
Response = gateway_pb2.TranscribeResponse

RunFor = Callable[[str, gateway_pb2.TranscribeRequest.Config], RunPipeline[Response]]
"""Returns what runs the call of a submitter with a config."""

_ROLES = {
    Role.USER: gateway_pb2.CallerRole.CALLER_ROLE_USER,
    Role.ADMIN: gateway_pb2.CallerRole.CALLER_ROLE_ADMIN,
}

Event = RecordingNeeded | RecordingKnown | Progress | Segment | Completed[Response]


AddVoices = Callable[[str, gateway_pb2.TranscribeRequest.Config], Awaitable[gateway_pb2.TranscribeRequest.Config]]
"""Adds the saved voices of a submitter to a config that asks for them."""


class GatewayServicer(gateway_pb2_grpc.GatewayServiceServicer):
    """Takes a recording and answers who said what, and when: see gateway.proto.

    Args:
        service: receives recordings and runs requests.
        run_for: returns what runs each call.
        add_voices: adds the saved voices of the caller.
        info: describes the gateway.
    """

    def __init__(
        self, service: TranscriptionService, run_for: RunFor, add_voices: AddVoices, info: InfoService
    ) -> None:
        self._service = service
        self._run_for = run_for
        self._add_voices = add_voices
        self._info = info

    async def Transcribe(
        self, request_iterator: AsyncIterator[gateway_pb2.TranscribeRequest], context: Context
    ) -> AsyncIterator[Response]:
        """Answers one call."""
        deadline = Deadline.after(context.time_remaining())
        config, chunks = await open_upload(request_iterator, "recording_chunk")
        submitter = submitter_of(context.invocation_metadata())
        config = await self._add_voices(submitter, config)
        run = self._run_for(submitter, config)
        async with aclosing(self._service.transcribe(decode_request(config), chunks, deadline, run)) as events:
            async for event in events:
                yield encode_event(event)

    async def GetGatewayInfo(
        self, request: gateway_pb2.GetGatewayInfoRequest, context: Context
    ) -> gateway_pb2.GetGatewayInfoResponse:
        """Describes the gateway."""
        info = await self._info.info(Deadline.after(context.time_remaining()))
        return gateway_pb2.GetGatewayInfoResponse(
            version=info.version,
            requires_token=info.requires_token,
            caller_name=info.caller.name,
            caller_role=_ROLES[info.caller.role],
            max_recording_bytes=info.max_recording_bytes,
            max_audio_duration=codec.encode_duration(info.max_audio_seconds),
            transcription_model=info.transcription_model,
            diarization_model=info.diarization_model,
            takes_jobs=info.takes_jobs,
        )


def encode_event(event: Event) -> Response:
    """Returns the message for ``event``."""
    match event:
        case RecordingNeeded():
            return Response(recording_needed=Response.RecordingNeeded())
        case RecordingKnown():
            return Response(recording_known=Response.RecordingKnown())
        case Progress():
            return Response(progress=codec.encode_progress(event))
        case Segment():
            return Response(segment=codec.encode_segment(event))
        case Completed():
            return event.result
