"""The state of a live session.

LiveOptions   what a caller may ask for
LiveAudio     the audio that the gateway may not have yet
LiveStream    the session: the messages of each connection, and what is left to send on the next one
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from careca import codec
from careca.codec.options import MAX_LIVE_CHANNELS
from careca.codec.speech import read_words
from careca.errors import CarecaError, InvalidRequest, PreconditionFailed, Unavailable
from careca.types import ChannelMode, Notice
from careca.v1 import gateway_pb2, live_pb2
from careca_client.live import (
    LiveEncoding,
    LiveEnded,
    LiveEvent,
    LiveFinal,
    LiveInterim,
    LiveNotice,
    LiveReconnecting,
    LiveResult,
    LiveStarted,
    SpeakerCorrection,
    UtteranceEnd,
)
from careca_client.protocol.attempts import Attempts
from careca_client.protocol.jobs import RESTART_RETRIES
from careca_client.protocol.options import SpeechOptions, choice, encode_channel_mode, set_speech_options
from careca_client.protocol.streams import protocol_error
from careca_client.result import TranscriptionResult

Request = live_pb2.LiveServiceTranscribeRequest
Response = live_pb2.LiveServiceTranscribeResponse

MAX_CHUNK_BYTES = 3 << 20
"""Most audio in one message."""

MAX_WAITING_BYTES = 4 << 20
"""With this much audio not yet passed to gRPC, ``send`` waits: two minutes of PCM at 16 kHz."""

MAX_NAME_CHARACTERS = 255
"""Greatest length of a display name."""

_PCM_RATES = (8_000, 48_000)
_G711_RATE = 8_000
_PAUSES = (0.2, 5.0)

_ENCODINGS = {
    LiveEncoding.PCM: live_pb2.LIVE_ENCODING_PCM_S16LE,
    LiveEncoding.MULAW: live_pb2.LIVE_ENCODING_MULAW,
    LiveEncoding.ALAW: live_pb2.LIVE_ENCODING_ALAW,
    LiveEncoding.CONTAINER: live_pb2.LIVE_ENCODING_CONTAINER,
}


class LiveOptions(SpeechOptions, total=False):
    """What a caller may ask for. ``translate``, ``initial_prompt`` and ``beam_size`` are for the final result only."""

    encoding: LiveEncoding | str
    """``pcm``, the default: signed 16-bit little-endian; ``mulaw`` or ``alaw``; ``container``."""
    sample_rate: int | None
    """Samples per second: 8,000 to 48,000 for PCM, by default 16,000; 8,000 for mu-law and A-law."""
    channels: int | None
    """The number of channels, whose samples are interleaved: 1, the default, or 2. A container says it itself."""
    channel_mode: ChannelMode | str
    """How two channels are used: ``mix``, the default, or ``separate``: each is one speaker. ``separate`` allows no
    number of speakers, and is not for a container."""
    interim_results: bool
    """Whether to yield words that may still change. Default: true."""
    utterance_pause: float | None
    """The pause that ends an utterance, from 0.2 to 5 seconds. Default: 0.8."""
    display_name: str | None
    """The name of the recording to show in formats and logs. Default: live."""
    session_id: str
    """A session to continue, which another process or another computer may have begun. ``LiveStarted`` says from which
    byte of the audio on to send. All other options but ``after_event`` are ignored: they are those of the session."""
    after_event: int
    """To continue: the number of the last event that is not needed again. Default: 0."""


def build_live_config(options: LiveOptions) -> Request.Config:
    """Returns the config of the first message.

    Raises ``InvalidRequest`` if an option is out of its range, ``OSError`` if a known speaker's recording cannot be
    read.
    """
    if session_id := options.get("session_id"):
        return Request.Config(session_id=session_id, after_event=options.get("after_event", 0))
    encoding = choice(
        LiveEncoding, options.get("encoding", LiveEncoding.PCM), "encoding", "encodings", "config.encoding"
    )
    pause = options.get("utterance_pause")
    config = Request.Config(
        encoding=_ENCODINGS[encoding],
        sample_rate_hertz=_checked_rate(encoding, options.get("sample_rate")),
        channel_count=_checked_channels(options.get("channels")),
        channel_mode=encode_channel_mode(options.get("channel_mode")),
        display_name=options.get("display_name") or "",
        interim_results=options.get("interim_results", True),
        utterance_pause=None if pause is None else codec.encode_duration(_checked_pause(pause)),
    )
    if len(config.display_name) > MAX_NAME_CHARACTERS:
        raise InvalidRequest(
            f"display_name has {len(config.display_name)} characters; at most {MAX_NAME_CHARACTERS} are accepted",
            field="config.display_name",
        )
    set_speech_options(config, options)
    codec.decode_live_channels(config)
    return config


class LiveAudio:
    """The audio that was queued and that the gateway may not have, with the flushes between its bytes, and the end.

    Positions are numbers of bytes from the start of the audio.
    """

    def __init__(self) -> None:
        self._kept = bytearray()
        self._kept_from = 0
        self._next = 0
        self._flushes: list[int] = []
        self._next_flush = 0
        self._furthest = 0
        self._end_sent = False
        self.ended = False
        """Whether the caller has said that the audio ends."""
        self.sent_bytes = 0
        """Bytes that were passed to gRPC, over all connections."""

    @property
    def received_bytes(self) -> int:
        """How much of the audio the gateway has for sure."""
        return self._kept_from

    @property
    def waiting_bytes(self) -> int:
        """How much of the audio was not yet passed to gRPC on this connection."""
        return self._kept_from + len(self._kept) - self._next

    @property
    def has_request(self) -> bool:
        """Whether there is something to send."""
        return self._has_flush or self.waiting_bytes > 0 or (self.ended and not self._end_sent)

    @property
    def end_sent(self) -> bool:
        """Whether the end was sent on this connection: nothing follows it."""
        return self._end_sent

    def put(self, data: bytes | memoryview) -> None:
        """Queues audio."""
        self._kept += data

    def flush(self) -> None:
        """Queues a flush after the audio so far."""
        self._flushes.append(self._kept_from + len(self._kept))

    def end(self) -> None:
        """Queues the end."""
        self.ended = True

    def next_request(self) -> Request:
        """Returns the next message."""
        if self._has_flush and self._flushes[self._next_flush] == self._next:
            self._next_flush += 1
            return Request(flush=Request.Flush())
        if self.waiting_bytes == 0:
            self._end_sent = True
            return Request(end=Request.End())
        begin = self._next - self._kept_from
        end = min(len(self._kept), begin + MAX_CHUNK_BYTES)
        if self._has_flush:
            end = min(end, self._flushes[self._next_flush] - self._kept_from)
        self._next += end - begin
        self._furthest = max(self._furthest, self._next)
        self.sent_bytes += end - begin
        return Request(audio=bytes(self._kept[begin:end]))

    def forget(self, received: int) -> None:
        """Forgets the audio up to ``received``, because the gateway has it."""
        received = min(received, self._next)
        if received > self._kept_from:
            del self._kept[: received - self._kept_from]
            self._kept_from = received
        # A flush after the last byte that the gateway has may have been lost.
        passed = sum(position < self._kept_from for position in self._flushes)
        del self._flushes[:passed]
        self._next_flush = max(0, self._next_flush - passed)

    def begin_at(self, received: int) -> None:
        """Says that the gateway has this much audio, which was sent by another client."""
        self._kept_from = self._next = self._furthest = received

    def resume(self, received: int) -> None:
        """Goes back to what the gateway does not have. Raises ``InternalError`` if that was forgotten or never sent."""
        if not self._kept_from <= received <= self._furthest:
            raise protocol_error(
                f"that it has {received} bytes of the audio, when it had {self._kept_from} of the {self._furthest} sent"
            )
        self._next = received
        self.forget(received)
        self._next_flush = 0
        self._end_sent = False

    @property
    def _has_flush(self) -> bool:
        return self._next_flush < len(self._flushes)


class LiveStream:
    """One live session, over all its connections. Not safe to use from several threads: its user has a lock.

    For each connection: ``connect``, then send what ``next_request`` returns whenever ``is_ready``, and give each
    response to ``receive``. Call ``finish`` if it ended without an error, ``after`` if with one, and ``disconnect`` in
    any case.
    """

    def __init__(self, config: Request.Config, *, retries: int) -> None:
        self._config = config
        self._attempts = Attempts(retries=retries, timeout=None)
        self._audio = LiveAudio()
        self._connection = 0
        self._config_sent = False
        self._started = False
        self._gateway_ended = False
        self._without_job = False
        self._finished = False
        self.session_id = ""
        """The id of the session; empty before the gateway has answered."""
        self.failure: CarecaError | None = None
        """Why the session cannot go on, if it cannot."""

    def connect(self) -> int:
        """Begins a connection and returns its number. Raises the failure if there is one."""
        if self.failure is not None:
            raise self.failure
        self._config_sent = self._started = False
        return self._connection

    def disconnect(self) -> None:
        """Ends the connection: nothing more is sent on it."""
        self._connection += 1

    def is_ready(self, connection: int) -> bool:
        """Whether ``next_request`` may be called."""
        if connection != self._connection or not self._config_sent:
            return True
        return self._started and not self._gateway_ended and (self._audio.has_request or self._audio.end_sent)

    def next_request(self, connection: int) -> Request | None:
        """Returns the next message to send on the connection, ``None`` if nothing follows."""
        if connection != self._connection:
            return None
        if not self._config_sent:
            self._config_sent = True
            return Request(config=self._config)
        return None if self._audio.end_sent else self._audio.next_request()

    @property
    def has_room(self) -> bool:
        """Whether ``put`` may be called. It may raise an error then."""
        return self._audio.waiting_bytes < MAX_WAITING_BYTES or self._is_over

    def put(self, data: bytes | memoryview) -> None:
        """Queues audio. Raises the failure, or ``PreconditionFailed`` (``SESSION_ENDED``) after the end."""
        self._check_open()
        self._audio.put(data)

    def flush(self) -> None:
        """Queues a flush. Raises as ``put`` does."""
        self._check_open()
        self._audio.flush()

    def end(self) -> None:
        """Queues the end, once."""
        self._audio.end()

    def close(self, failure: CarecaError) -> None:
        """Ends the session here because of ``failure``, unless there is another one already."""
        self.failure = self.failure or failure

    def receive(self, response: Response) -> LiveEvent | None:
        """Returns the event in the response, ``None`` if it was received before.

        Raises ``InternalError`` (``PROTOCOL_ERROR``) if the response breaks the stream's rules.
        """
        kind = response.WhichOneof("message")
        if self._finished:
            raise protocol_error(f"{kind} after the result")
        if (kind == "started") == self._started:
            raise protocol_error("started a second time" if self._started else f"{kind} before started")
        if kind == "started":
            return self._start(response)
        self._audio.forget(response.received_bytes)
        if 0 < response.event_number <= self._config.after_event:
            return None
        self._config.after_event = max(self._config.after_event, response.event_number)
        self._attempts.renew(RESTART_RETRIES)
        return self._event_of(response)

    @property
    def is_complete(self) -> bool:
        """Whether the last message has been received. A session without audio has no job and no result."""
        return self._finished or self._without_job

    def finish(self) -> None:
        """Raises ``Unavailable`` if the stream ended before the last message: the session can be continued."""
        if not self.is_complete:
            raise Unavailable("the gateway ended the call before the result")

    def after(self, error: CarecaError) -> LiveReconnecting:
        """Returns when the next attempt follows. Raises the error if another attempt cannot help."""
        try:
            retrying = self._attempts.after(error)
        except CarecaError as failure:
            self.close(failure)
            raise
        return LiveReconnecting(retrying.attempt, retrying.delay_seconds, retrying.error)

    def _start(self, response: Response) -> LiveStarted:
        session_id, received = response.started.session_id, response.started.received_bytes
        if not session_id or self._config.session_id not in ("", session_id):
            raise protocol_error(f"the id {session_id!r} of another session")
        if not self._config.session_id or received > self._audio.received_bytes:
            self._attempts.renew(RESTART_RETRIES)
        if self._config.session_id and not self.session_id:
            self._audio.begin_at(received)
        else:
            self._audio.resume(received)
        self._started = True
        self.session_id = self._config.session_id = session_id
        return LiveStarted(session_id=session_id, received_bytes=received, **_position(response))

    def _event_of(self, response: Response) -> LiveEvent | None:
        position = _position(response)
        match response.WhichOneof("message"):
            case "interim":
                interim = response.interim
                return LiveInterim(words=read_words(interim.words), language=interim.language_code, **position)
            case "final":
                final = response.final
                return LiveFinal(
                    words=read_words(final.words),
                    first_word=final.first_word,
                    language=final.language_code,
                    channel=final.channel or None,
                    **position,
                )
            case "speaker_correction":
                correction = response.speaker_correction
                return SpeakerCorrection(
                    first_word=correction.first_word,
                    word_count=correction.word_count,
                    speaker=correction.speaker_label,
                    **position,
                )
            case "utterance_end":
                return UtteranceEnd(channel=response.utterance_end.channel or None, **position)
            case "delay":
                return None
            case "notice":
                return LiveNotice(notice=_decode_notice(response.notice), **position)
            case "ended":
                self._gateway_ended, self._without_job = True, not response.ended.job_id
                return LiveEnded(job_id=response.ended.job_id, **position)
            case "result":
                self._finished = True
                result = TranscriptionResult(
                    response.result, uploaded_bytes=self._audio.sent_bytes, seconds=self._attempts.seconds
                )
                return LiveResult(result=result, **position)
            case _:
                raise protocol_error("a message that this client does not know")

    @property
    def _is_over(self) -> bool:
        return self.failure is not None or self._audio.ended or self._gateway_ended or self._finished

    def _check_open(self) -> None:
        if self.failure is not None:
            raise self.failure
        if self._is_over:
            raise PreconditionFailed("the live session takes no more audio: it has ended", reason="SESSION_ENDED")


def split(data: bytes | bytearray | memoryview) -> Iterator[memoryview]:
    """Yields audio in parts of a size that one message may have."""
    view = memoryview(data).cast("B")
    for begin in range(0, len(view), MAX_CHUNK_BYTES):
        yield view[begin : begin + MAX_CHUNK_BYTES]


def _checked_rate(encoding: LiveEncoding, rate: int | None) -> int:
    """Returns the sample rate, 0 for the default. Raises ``InvalidRequest`` if the encoding does not have it."""
    if encoding is LiveEncoding.CONTAINER:
        if rate:
            raise InvalidRequest(
                "sample_rate must be left out for a container, which says it itself", field="config.sample_rate_hertz"
            )
        return 0
    least, most = _PCM_RATES if encoding is LiveEncoding.PCM else (_G711_RATE, _G711_RATE)
    if rate is None or least <= rate <= most:
        return rate or 0
    allowed = f"from {least} to {most}" if least < most else f"{least}"
    raise InvalidRequest(
        f"sample_rate must be {allowed} for {encoding}, but is {rate}", field="config.sample_rate_hertz"
    )


def _checked_channels(count: int | None) -> int:
    """Returns the number of channels, 0 for the default. Raises ``InvalidRequest`` if it is none."""
    if count is None:
        return 0
    if not 1 <= count <= MAX_LIVE_CHANNELS:
        raise InvalidRequest(f"channels must be 1 or {MAX_LIVE_CHANNELS}, but is {count}", field="config.channel_count")
    return count


def _checked_pause(seconds: float) -> float:
    least, most = _PAUSES
    if not least <= seconds <= most:
        raise InvalidRequest(
            f"utterance_pause must be from {least:g} to {most:g} s, but is {seconds:g}", field="config.utterance_pause"
        )
    return seconds


def _position(response: Response) -> dict[str, Any]:
    """What all events have."""
    return {
        "event_number": response.event_number,
        "audio_seconds": codec.decode_duration(response.audio_offset),
        "behind_seconds": codec.decode_duration(response.behind),
    }


def _decode_notice(message: gateway_pb2.Notice) -> Notice:
    start, end = (
        codec.decode_duration(getattr(message, name)) if message.HasField(name) else None
        for name in ("start_offset", "end_offset")
    )
    return Notice(message.code, message.message, start, end)
