"""The gRPC service for the recordings of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio

from careca import codec
from careca.types import RecordingInfo
from careca.v1 import recordings_pb2, recordings_pb2_grpc
from careca_gateway.api.jobs import require_jobs
from careca_gateway.api.submitter import submitter_of
from careca_gateway.playback.parts import ByteRange, Window
from careca_gateway.playback.service import RecordingService

Context = grpc.aio.ServicerContext[Any, Any]


class RecordingServicer(recordings_pb2_grpc.RecordingServiceServicer):
    """Reads the recordings of jobs: see recordings.proto.

    Args:
        recordings: reads them; ``None`` if this gateway takes no jobs.
    """

    def __init__(self, recordings: RecordingService | None) -> None:
        self._recordings = recordings

    async def ReadRecording(
        self, request: recordings_pb2.ReadRecordingRequest, context: Context
    ) -> AsyncIterator[recordings_pb2.ReadRecordingResponse]:
        """Streams the info and the bytes of the recording."""
        recordings, submitter = require_jobs(self._recordings), submitter_of(context.invocation_metadata())
        form, part = codec.decode_recording_form(request.form), ByteRange(request.offset, request.length)
        async with aclosing(recordings.read(submitter, request.job_id, form, part)) as parts:
            async for each in parts:
                if isinstance(each, RecordingInfo):
                    yield recordings_pb2.ReadRecordingResponse(info=codec.encode_recording_info(each))
                else:
                    yield recordings_pb2.ReadRecordingResponse(chunk=each)

    async def GetWaveform(
        self, request: recordings_pb2.GetWaveformRequest, context: Context
    ) -> recordings_pb2.GetWaveformResponse:
        """Returns the peaks of the recording's audio."""
        recordings, submitter = require_jobs(self._recordings), submitter_of(context.invocation_metadata())
        window = Window(
            start=codec.decode_duration(request.start_offset),
            end=codec.decode_duration(request.end_offset) if request.HasField("end_offset") else None,
            max_buckets=request.max_buckets,
        )
        return codec.encode_waveform(await recordings.waveform(submitter, request.job_id, window))
