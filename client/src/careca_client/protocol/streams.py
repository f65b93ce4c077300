"""The streams that offer a recording before they send it. The gateway's side is described in the protos."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from careca import codec
from careca.errors import InternalError
from careca.types import Progress, Segment
from careca.v1 import gateway_pb2, jobs_pb2
from careca_client.events import RecordingKnown, Uploading
from careca_client.recording import Recording

Request = TypeVar("Request", gateway_pb2.TranscribeRequest, jobs_pb2.UploadRecordingRequest)
Response = TypeVar("Response", gateway_pb2.TranscribeResponse, jobs_pb2.UploadRecordingResponse)


class RecordingStream(Generic[Request, Response]):
    """One stream that offers a recording: send ``first_request``, then give each response to ``receive``.

    Once ``answered`` is true, send the messages of ``chunks`` too if ``recording_needed`` is true.
    """

    def __init__(self, first_request: Request, recording: Recording) -> None:
        self.first_request: Request = first_request
        self.first_request.config.recording.CopyFrom(codec.encode_digest(recording.digest))
        self.name = recording.name
        """The recording's display name."""
        self._recording = recording
        self.answered = False
        """Whether the gateway has said if it needs the recording."""
        self.recording_needed = False
        """Whether the gateway needs the recording."""
        self.uploaded_bytes = 0
        """Bytes of the recording that were passed to gRPC so far."""

    def chunks(self) -> Iterator[tuple[Request, Uploading]]:
        """Reads the recording: yields each message, with the event to emit once the message was passed to gRPC.

        Raises ``InvalidRecording`` if the file has changed since it was hashed.
        """
        total = self._recording.digest.size_bytes
        for chunk in self._recording.chunks():
            self.uploaded_bytes += len(chunk)
            yield type(self.first_request)(recording_chunk=chunk), Uploading(self.uploaded_bytes, total)

    def receive(self, response: Response) -> None:
        """Takes the next response. Raises ``InternalError`` (``PROTOCOL_ERROR``) if it breaks the stream's rules."""
        kind = response.WhichOneof("message")
        if kind in {"recording_needed", "recording_known"}:
            if self.answered:
                raise protocol_error(f"{kind} a second time")
            self.answered, self.recording_needed = True, kind == "recording_needed"
        elif not self.answered:
            raise protocol_error(f"{kind} before it said whether it needs the recording")
        else:
            self._receive_work(response)

    def _receive_work(self, response: Response) -> None:
        """Takes a response that follows the answer about the recording."""
        raise protocol_error("a message that this client does not know")

    def event_of(self, response: Response) -> RecordingKnown | Uploading | Progress | Segment | None:
        """Returns the event that the response stands for, ``None`` if it is none."""
        match response.WhichOneof("message"):
            case "recording_known":
                return RecordingKnown(self._recording.digest)
            case "recording_needed":
                return Uploading(0, self._recording.digest.size_bytes)
            case _:
                return None


class UploadStream(RecordingStream[jobs_pb2.UploadRecordingRequest, jobs_pb2.UploadRecordingResponse]):
    """A stream that only uploads a recording. Call ``finish`` when it has ended without an error."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(jobs_pb2.UploadRecordingRequest(), recording)

    def finish(self) -> None:
        """Raises ``InternalError`` if the gateway never said whether it needs the recording."""
        if not self.answered:
            raise protocol_error("the end of the stream without saying whether it needs the recording")


class TranscribeStream(RecordingStream[gateway_pb2.TranscribeRequest, gateway_pb2.TranscribeResponse]):
    """A stream that asks for the result of one recording. Call ``finish`` when it has ended without an error."""

    def __init__(self, config: gateway_pb2.TranscribeRequest.Config, recording: Recording) -> None:
        super().__init__(gateway_pb2.TranscribeRequest(config=config), recording)
        self.first_request.config.display_name = recording.name
        self._result: gateway_pb2.TranscribeResult | None = None

    def receive(self, response: gateway_pb2.TranscribeResponse) -> None:
        """Takes the next response. Raises ``InternalError`` (``PROTOCOL_ERROR``) if it breaks the stream's rules."""
        if self._result is not None:
            raise protocol_error(f"{response.WhichOneof('message')} after the result")
        super().receive(response)

    def _receive_work(self, response: gateway_pb2.TranscribeResponse) -> None:
        kind = response.WhichOneof("message")
        if kind == "result":
            self._result = response.result
        elif kind not in {"progress", "segment"}:
            super()._receive_work(response)

    def event_of(
        self, response: gateway_pb2.TranscribeResponse
    ) -> RecordingKnown | Uploading | Progress | Segment | None:
        """Returns the event that the response stands for, ``None`` if it is none."""
        match response.WhichOneof("message"):
            case "progress":
                return codec.decode_progress(response.progress)
            case "segment":
                return codec.decode_segment(response.segment)
            case _:
                return super().event_of(response)

    def finish(self) -> gateway_pb2.TranscribeResult:
        """Returns the result. Raises ``InternalError`` if the stream ended without one."""
        if self._result is None:
            raise protocol_error("the end of the stream without a result")
        return self._result


def protocol_error(what: str) -> InternalError:
    """The error (``PROTOCOL_ERROR``) of a gateway that sent ``what``, which the stream's rules do not allow."""
    return InternalError(
        f"the gateway broke the rules of the stream: it sent {what}; is it of the same version as this client?",
        reason="PROTOCOL_ERROR",
    )
