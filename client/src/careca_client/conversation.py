"""The rules of one Transcribe stream as its caller keeps them, without any I/O: shared by both clients.

Conversation   one stream: what to send first, what each answer means, what breaks the rules
Attempts       one call of ``transcribe``: the time left, and whether and when to try again
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn, TypedDict

from careca import codec
from careca.errors import CarecaError, DeadlineExceeded, InternalError, InvalidRequest, Unavailable
from careca.types import ChannelMode, OutputFormat
from careca.v1 import audio_pb2, gateway_pb2
from careca_client.events import Event, RecordingKnown, Retrying, Uploading
from careca_client.recording import Recording, changed
from careca_client.result import TranscriptionResult
from careca_client.speakers import KnownSpeaker, encode_known_speakers

FIRST_DELAY_SECONDS = 0.25
"""Wait before the second attempt; each further wait is twice as long."""

MAX_DELAY_SECONDS = 5.0
"""Longest wait between two attempts, whatever the gateway asks for."""


class TranscribeOptions(TypedDict, total=False):
    """What a caller may ask for; what is left out is the services' choice. Ranges stand in ``careca.v1``'s protos."""

    language: str | None
    """ISO 639-1 code of the language spoken; ``None`` detects it."""
    translate: bool
    """Translate to English instead of writing down the language spoken."""
    initial_prompt: str
    """Text that the model takes as having come before: names, spelling, style."""
    hotwords: Sequence[str]
    """Words and phrases to listen for."""
    beam_size: int | None
    """Width of the beam search, 1 (fastest) to 20."""
    speaker_count: int | None
    """The exact number of speakers; goes with neither of the next two."""
    min_speaker_count: int | None
    """The least number of speakers."""
    max_speaker_count: int | None
    """The greatest number of speakers."""
    channel_mode: ChannelMode | str
    """``mix``, the default, or ``separate``: each channel is its own speaker, whose number is then not to be given."""
    known_speakers: Sequence[KnownSpeaker]
    """People to call by their names where their voices are recognised."""
    formats: Iterable[OutputFormat | str]
    """The textual forms to make of the result."""
    skip_cache: bool
    """Compute anew even where a result is cached."""
    display_name: str | None
    """The name to show in formats and logs; by default the file's."""


def build_config(options: TranscribeOptions) -> gateway_pb2.TranscribeRequest.Config:
    """The first message's config, still without a recording.

    Raises ``InvalidRequest`` where an option is out of its range, so that nothing is hashed or sent in vain, and
    ``OSError`` where a known speaker's recording cannot be read.
    """
    hotwords = options.get("hotwords", ())
    config = gateway_pb2.TranscribeRequest.Config(
        transcription=audio_pb2.TranscriptionOptions(
            language_code=options.get("language") or "",
            translate=options.get("translate", False),
            initial_prompt=options.get("initial_prompt", ""),
            hotwords=[hotwords] if isinstance(hotwords, str) else hotwords,
            beam_size=options.get("beam_size"),
        ),
        diarization=audio_pb2.DiarizationOptions(
            speaker_count=options.get("speaker_count"),
            min_speaker_count=options.get("min_speaker_count"),
            max_speaker_count=options.get("max_speaker_count"),
        ),
        cache_control=audio_pb2.CacheControl(skip_cache=options.get("skip_cache", False)),
        formats=_encode_formats(options.get("formats", ())),
        channel_mode=_encode_channel_mode(options.get("channel_mode", ChannelMode.MIX)),
        known_speakers=encode_known_speakers(options.get("known_speakers", ())),
    )
    codec.decode_transcription_options(config.transcription, field="config.transcription")
    codec.decode_diarization_options(config.diarization, field="config.diarization")
    codec.decode_channel_mode(config.channel_mode, config.diarization)
    codec.decode_known_speakers(config.known_speakers)
    return config


def _encode_formats(formats: Iterable[OutputFormat | str]) -> list[gateway_pb2.OutputFormat.ValueType]:
    names = dict.fromkeys([formats] if isinstance(formats, str) else formats)
    for name in names:
        if name not in set(OutputFormat):
            raise InvalidRequest(
                f"there is no format {name}; the formats are {', '.join(OutputFormat)}", field="config.formats"
            )
    return [codec.encode_format(OutputFormat(name)) for name in names]


def _encode_channel_mode(mode: ChannelMode | str) -> gateway_pb2.ChannelMode.ValueType:
    if mode not in set(ChannelMode):
        raise InvalidRequest(
            f"there is no channel mode {mode}; the modes are {', '.join(ChannelMode)}", field="config.channel_mode"
        )
    return codec.encode_channel_mode(ChannelMode(mode))


class Conversation:
    """One stream, asked for one recording: ``opening`` is sent, then each answer is given to ``receive``.

    Once ``answered`` is true, ``recording_needed`` says whether the messages of ``chunks`` are to be sent too. When the
    stream has ended without an error, ``finish`` gives the result.
    """

    def __init__(self, config: gateway_pb2.TranscribeRequest.Config, recording: Recording) -> None:
        self.opening = gateway_pb2.TranscribeRequest(config=config)
        """The first message."""
        self.opening.config.recording.CopyFrom(codec.encode_digest(recording.digest))
        self.opening.config.display_name = recording.name
        self._recording = recording
        self._result: gateway_pb2.TranscribeResult | None = None
        self.answered = False
        """Whether the gateway has said if it needs the recording."""
        self.recording_needed = False
        """Whether it does."""
        self.uploaded_bytes = 0
        """Bytes of the recording handed over so far."""

    def chunks(self) -> Iterator[tuple[gateway_pb2.TranscribeRequest, Uploading]]:
        """The messages with the recording's bytes, each with what to tell once it is handed over. Reads from disk.

        Raises ``InvalidRecording`` where the file is not what was hashed any more.
        """
        total = self._recording.digest.size_bytes
        for chunk in self._recording.chunks():
            self.uploaded_bytes += len(chunk)
            yield gateway_pb2.TranscribeRequest(recording_chunk=chunk), Uploading(self.uploaded_bytes, total)

    def receive(self, response: gateway_pb2.TranscribeResponse) -> None:
        """Takes the next answer. Raises ``InternalError`` (``PROTOCOL_ERROR``) where it breaks the stream's rules."""
        kind = response.WhichOneof("message")
        if self._result is not None:
            _break_off(f"{kind} after the result")
        if kind in {"recording_needed", "recording_known"}:
            if self.answered:
                _break_off(f"{kind} a second time")
            self.answered, self.recording_needed = True, kind == "recording_needed"
        elif not self.answered:
            _break_off(f"{kind} before it said whether it needs the recording")
        elif kind == "result":
            self._result = response.result
        elif kind not in {"progress", "segment"}:
            _break_off("a message that this client does not know")

    def event_of(self, response: gateway_pb2.TranscribeResponse) -> Event | None:
        """What an answer says to whoever watches; ``None`` for the others."""
        match response.WhichOneof("message"):
            case "recording_known":
                return RecordingKnown(self._recording.digest)
            case "recording_needed":
                return Uploading(0, self._recording.digest.size_bytes)
            case "progress":
                return codec.decode_progress(response.progress)
            case "segment":
                return codec.decode_segment(response.segment)
            case _:
                return None

    def finish(self) -> gateway_pb2.TranscribeResult:
        """The result, once the stream has ended. Raises ``InternalError`` where it ended without one."""
        if self._result is None:
            _break_off("the end of the stream without a result")
        return self._result


def _break_off(what: str) -> NoReturn:
    raise InternalError(
        f"the gateway broke the rules of the stream: it sent {what}; is it of the same version as this client?",
        reason="PROTOCOL_ERROR",
    )


class Attempts:
    """The patience of one call: its deadline over all attempts, and the attempts left where the gateway goes away.

    An attempt is a whole conversation. It offers the digest first, so that asking again sends nothing that arrived.
    """

    def __init__(
        self,
        *,
        retries: int,
        timeout: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._retries_left = retries
        self._clock = clock
        self._begin = clock()
        self._timeout = timeout
        self._delay = FIRST_DELAY_SECONDS
        self._attempt = 1
        self._uploaded_bytes = 0

    @property
    def seconds(self) -> float:
        """Seconds since the call began."""
        return self._clock() - self._begin

    def remaining(self) -> float | None:
        """Seconds left for the next attempt, ``None`` without a limit. Raises ``DeadlineExceeded`` at none."""
        if self._timeout is None:
            return None
        left = self._timeout - self.seconds
        if left <= 0:
            raise DeadlineExceeded(f"there was no result within {self._timeout:g} s: allow more time")
        return left

    def after(self, error: CarecaError, conversation: Conversation) -> Retrying:
        """How to go on after ``error``: wait, then try again. Raises what to tell the caller where that cannot help."""
        self._uploaded_bytes += conversation.uploaded_bytes
        if error.reason == "DIGEST_MISMATCH":
            raise changed(conversation.opening.config.display_name) from error
        if not isinstance(error, Unavailable) or not self._retries_left:
            raise error
        delay = min(max(self._delay, error.retry_after_seconds or 0.0), MAX_DELAY_SECONDS)
        left = self.remaining()
        if left is not None and delay >= left:
            raise error
        self._retries_left -= 1
        self._attempt += 1
        self._delay *= 2
        return Retrying(self._attempt, delay, error)

    def conclude(self, message: gateway_pb2.TranscribeResult, conversation: Conversation) -> TranscriptionResult:
        """The result of the attempt that came through."""
        uploaded_bytes = self._uploaded_bytes + conversation.uploaded_bytes
        return TranscriptionResult(message, uploaded_bytes=uploaded_bytes, seconds=self.seconds)
