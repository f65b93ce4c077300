"""The client's calls that read the recordings of jobs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from careca import codec
from careca.rpc.statuses import translated_errors
from careca.types import RecordingForm, RecordingInfo, Waveform
from careca.v1 import recordings_pb2, recordings_pb2_grpc
from careca_client.aio.calls import AsyncCalls
from careca_client.protocol.recordings import (
    RECORDING_TIMEOUT_SECONDS,
    decode_first_response,
    encode_read_request,
    encode_waveform_request,
)


@dataclass(frozen=True, slots=True)
class AsyncRecordingReader:
    """A recording that is being read."""

    info: RecordingInfo
    """What is known about the form. Its size is that of the whole form, not of the part that is read."""
    chunks: AsyncIterator[bytes]
    """The bytes in order, at most 1 MiB at a time."""


class AsyncRecordingCalls(AsyncCalls):
    """The recordings of jobs, for all who can see the jobs.

    All calls raise ``NotFound`` if the job does not exist or its recording is gone (``RECORDING_GONE``), and
    ``PreconditionFailed`` (``NOT_DECODED``) if decoded audio is needed that the job does not have yet.
    """

    _recordings: recordings_pb2_grpc.RecordingServiceAsyncStub

    @asynccontextmanager
    async def read_recording(
        self,
        job_id: str,
        *,
        form: RecordingForm | str = RecordingForm.ORIGINAL,
        offset: int = 0,
        length: int | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[AsyncRecordingReader]:
        """Opens the recording of the job. The end of the ``with`` block ends the call.

        Args:
            job_id: The job.
            form: The bytes as they were uploaded, or a WAV file of the decoded audio, which every browser plays.
            offset: The number of bytes to skip. ``InvalidRequest`` (``RANGE_NOT_SATISFIABLE``, with ``size_bytes`` in
                its metadata) is raised if the form does not have more.
            length: The greatest number of bytes to read. Default: all up to the end.
            timeout: Limit for the whole call in seconds.
        """
        request = encode_read_request(job_id, form, offset, length)
        async with aclosing(self._read(request, timeout)) as responses:
            info = decode_first_response(await anext(responses, None))
            yield AsyncRecordingReader(info, (response.chunk async for response in responses))

    async def _read(
        self, request: recordings_pb2.ReadRecordingRequest, timeout: float | None
    ) -> AsyncGenerator[recordings_pb2.ReadRecordingResponse, None]:
        call = self._recordings.ReadRecording(request, timeout=timeout, metadata=self._metadata)
        try:
            with translated_errors():
                async for response in call:
                    yield response
        finally:
            call.cancel()

    async def waveform(
        self,
        job_id: str,
        *,
        start: float = 0.0,
        end: float | None = None,
        max_buckets: int | None = None,
        timeout: float = RECORDING_TIMEOUT_SECONDS,
    ) -> Waveform:
        """Returns the peaks of the job's decoded audio, for drawing.

        Args:
            job_id: The job.
            start: Start of the part to draw, in seconds. Must be within the audio.
            end: End of the part to draw, in seconds. Default: the end of the audio.
            max_buckets: The greatest number of buckets, up to 20,000. Default: 4,000.
            timeout: Limit in seconds. The first call for a long recording takes seconds.
        """
        request = encode_waveform_request(job_id, start, end, max_buckets)
        response = await self._query(self._recordings.GetWaveform, request, timeout)
        return codec.decode_waveform(response)
