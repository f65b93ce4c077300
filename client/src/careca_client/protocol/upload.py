"""The rules of the streams that offer a recording before they send it, as their caller keeps them, without any I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, NoReturn, TypeVar

from careca import codec
from careca.errors import InternalError
from careca.types import Progress, Segment
from careca.v1 import gateway_pb2, jobs_pb2
from careca_client.events import RecordingKnown, Uploading
from careca_client.recording import Recording

Request = TypeVar("Request", gateway_pb2.TranscribeRequest, jobs_pb2.UploadRecordingRequest)
Response = TypeVar("Response", gateway_pb2.TranscribeResponse, jobs_pb2.UploadRecordingResponse)


class Offer(Generic[Request, Response]):
    """One stream, opened about one recording: ``opening`` is sent, then each answer is given to ``receive``.

    Once ``answered`` is true, ``recording_needed`` says whether the messages of ``chunks`` are to be sent too.
    """

    def __init__(self, opening: Request, recording: Recording) -> None:
        self.opening: Request = opening
        """The first message."""
        self.opening.config.recording.CopyFrom(codec.encode_digest(recording.digest))
        self.name = recording.name
        """The recording's name to show."""
        self._recording = recording
        self.answered = False
        """Whether the gateway has said if it needs the recording."""
        self.recording_needed = False
        """Whether it does."""
        self.uploaded_bytes = 0
        """Bytes of the recording handed over so far."""

    def chunks(self) -> Iterator[tuple[Request, Uploading]]:
        """The messages with the recording's bytes, each with what to tell once it is handed over. Reads from disk.

        Raises ``InvalidRecording`` where the file is not what was hashed any more.
        """
        total = self._recording.digest.size_bytes
        for chunk in self._recording.chunks():
            self.uploaded_bytes += len(chunk)
            yield type(self.opening)(recording_chunk=chunk), Uploading(self.uploaded_bytes, total)

    def receive(self, response: Response) -> None:
        """Takes the next answer. Raises ``InternalError`` (``PROTOCOL_ERROR``) where it breaks the stream's rules."""
        kind = response.WhichOneof("message")
        if kind in {"recording_needed", "recording_known"}:
            if self.answered:
                break_off(f"{kind} a second time")
            self.answered, self.recording_needed = True, kind == "recording_needed"
        elif not self.answered:
            break_off(f"{kind} before it said whether it needs the recording")
        else:
            self._receive_work(response)

    def _receive_work(self, response: Response) -> None:
        break_off("a message that this client does not know")

    def event_of(self, response: Response) -> RecordingKnown | Uploading | Progress | Segment | None:
        """What an answer says to whoever watches; ``None`` for the others."""
        match response.WhichOneof("message"):
            case "recording_known":
                return RecordingKnown(self._recording.digest)
            case "recording_needed":
                return Uploading(0, self._recording.digest.size_bytes)
            case _:
                return None


class Upload(Offer[jobs_pb2.UploadRecordingRequest, jobs_pb2.UploadRecordingResponse]):
    """A stream that brings a recording and does nothing else. When it has ended without an error, ask ``finish``."""

    def __init__(self, recording: Recording) -> None:
        super().__init__(jobs_pb2.UploadRecordingRequest(), recording)

    def finish(self) -> None:
        """The gateway has the recording. Raises ``InternalError`` where it never said whether it needs it."""
        if not self.answered:
            break_off("the end of the stream without saying whether it needs the recording")


def break_off(what: str) -> NoReturn:
    """Raises ``InternalError`` (``PROTOCOL_ERROR``): the gateway sent ``what``, which its rules do not allow."""
    raise InternalError(
        f"the gateway broke the rules of the stream: it sent {what}; is it of the same version as this client?",
        reason="PROTOCOL_ERROR",
    )
