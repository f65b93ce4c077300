"""The gRPC service for transcription calls."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc.aio

from careca import codec
from careca.rpc.upload_stream import open_upload
from careca.types import Progress, Segment
from careca.v1 import gateway_pb2, gateway_pb2_grpc
from careca_gateway.api.submitter import submitter_of
from careca_gateway.pipeline.port import RunPipeline
from careca_gateway.request import Completed, Deadline, RecordingKnown, RecordingNeeded
from careca_gateway.request_codec import decode_request
from careca_gateway.transcription import TranscriptionService

Context = grpc.aio.ServicerContext[Any, Any]
Response = gateway_pb2.TranscribeResponse

RunFor = Callable[[str, gateway_pb2.TranscribeRequest.Config], RunPipeline[Response]]
"""Returns what runs the call of a submitter with a config."""

Event = RecordingNeeded | RecordingKnown | Progress | Segment | Completed[Response]


class GatewayServicer(gateway_pb2_grpc.GatewayServiceServicer):
    """Takes a recording and answers who said what, and when: see gateway.proto.

    Args:
        service: receives recordings and runs requests.
        run_for: returns what runs each call.
    """

    def __init__(self, service: TranscriptionService, run_for: RunFor) -> None:
        self._service = service
        self._run_for = run_for

    async def Transcribe(
        self, request_iterator: AsyncIterator[gateway_pb2.TranscribeRequest], context: Context
    ) -> AsyncIterator[Response]:
        """Answers one call."""
        deadline = Deadline.after(context.time_remaining())
        config, chunks = await open_upload(request_iterator, "recording_chunk")
        run = self._run_for(submitter_of(context.invocation_metadata()), config)
        async with aclosing(self._service.transcribe(decode_request(config), chunks, deadline, run)) as events:
            async for event in events:
                yield encode_event(event)


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
