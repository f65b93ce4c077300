"""The rules of one Transcribe stream as its caller keeps them, without any I/O: shared by both clients.

Conversation   one stream: what to send first, what each answer means, what breaks the rules
Attempts       one call of a client, such as ``transcribe``: the time left, and whether and when to try again
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypedDict

from careca import codec
from careca.errors import CarecaError, DeadlineExceeded, InvalidRequest, Unavailable
from careca.types import AudioTracks, ChannelMode, OutputFormat, Progress, Segment
from careca.v1 import audio_pb2, gateway_pb2
from careca_client.events import RecordingKnown, Retrying, Uploading
from careca_client.protocol.upload import Offer, break_off
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
    """The language spoken: a code (pt), a tag (pt-BR) or a name (Portuguese, português); ``None`` detects it, and anew
    where the recording changes it."""
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
    audio_track: AudioTracks | str | int
    """Of several audio tracks the number of one, from 1; ``all``, mixed; ``each``, its own speaker, whose number is
    then not to be given; or ``auto``: the one marked as default or the first, unless it is silent."""
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
        formats=encode_formats(options.get("formats", ())),
        channel_mode=_encode_channel_mode(options.get("channel_mode", ChannelMode.MIX)),
        known_speakers=encode_known_speakers(options.get("known_speakers", ())),
    )
    _set_audio_track(config, options.get("audio_track", AudioTracks.AUTO))
    checked = codec.decode_transcription_options(config.transcription, field="config.transcription")
    config.transcription.language_code = checked.language or ""
    codec.decode_diarization_options(config.diarization, field="config.diarization")
    codec.decode_channel_mode(config.channel_mode, config.diarization)
    codec.decode_audio_track(config)
    codec.decode_known_speakers(config.known_speakers)
    return config


def encode_formats(
    formats: Iterable[OutputFormat | str], field: str = "config.formats"
) -> list[gateway_pb2.OutputFormat.ValueType]:
    """The formats' numbers, each once. Raises ``InvalidRequest`` where there is no such format."""
    names = dict.fromkeys([formats] if isinstance(formats, str) else formats)
    for name in names:
        if name not in set(OutputFormat):
            raise InvalidRequest(f"there is no format {name}; the formats are {', '.join(OutputFormat)}", field=field)
    return [codec.encode_format(OutputFormat(name)) for name in names]


def _encode_channel_mode(mode: ChannelMode | str) -> gateway_pb2.ChannelMode.ValueType:
    if mode not in set(ChannelMode):
        raise InvalidRequest(
            f"there is no channel mode {mode}; the modes are {', '.join(ChannelMode)}", field="config.channel_mode"
        )
    return codec.encode_channel_mode(ChannelMode(mode))


def _set_audio_track(config: gateway_pb2.TranscribeRequest.Config, track: AudioTracks | str | int) -> None:
    if isinstance(track, str) and track not in set(AudioTracks):
        raise InvalidRequest(
            f"there is no audio track {track}; it is a number from 1, or one of {', '.join(AudioTracks)}",
            field="config.audio_track",
        )
    try:
        codec.set_audio_track(config, AudioTracks(track) if isinstance(track, str) else track)
    except ValueError:
        raise InvalidRequest(f"there is no audio track {track}", field="config.audio_track") from None


class Conversation(Offer[gateway_pb2.TranscribeRequest, gateway_pb2.TranscribeResponse]):
    """One stream, asked for the result of one recording. When it has ended without an error, ``finish`` gives that."""

    def __init__(self, config: gateway_pb2.TranscribeRequest.Config, recording: Recording) -> None:
        super().__init__(gateway_pb2.TranscribeRequest(config=config), recording)
        self.opening.config.display_name = recording.name
        self._result: gateway_pb2.TranscribeResult | None = None

    def receive(self, response: gateway_pb2.TranscribeResponse) -> None:
        """Takes the next answer. Raises ``InternalError`` (``PROTOCOL_ERROR``) where it breaks the stream's rules."""
        if self._result is not None:
            break_off(f"{response.WhichOneof('message')} after the result")
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
        """What an answer says to whoever watches; ``None`` for the others."""
        match response.WhichOneof("message"):
            case "progress":
                return codec.decode_progress(response.progress)
            case "segment":
                return codec.decode_segment(response.segment)
            case _:
                return super().event_of(response)

    def finish(self) -> gateway_pb2.TranscribeResult:
        """The result, once the stream has ended. Raises ``InternalError`` where it ended without one."""
        if self._result is None:
            break_off("the end of the stream without a result")
        return self._result


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
        self._clock = clock
        self._begin = clock()
        self._timeout = timeout
        self._retries = retries
        self._uploaded_bytes = 0
        self.renew()

    def renew(self, least_retries: int = 0) -> None:
        """Something has come through: what fails next has all attempts before it again, within the time that is left.

        These are at least ``least_retries``, unless the caller wants none at all.
        """
        self._retries_left = max(self._retries, least_retries) if self._retries else 0
        self._delay = FIRST_DELAY_SECONDS
        self._attempt = 1

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

    def after(self, error: CarecaError, offer: Offer[Any, Any] | None = None) -> Retrying:
        """How to go on after ``error``: wait, then try again. Raises what to tell the caller where that cannot help.

        ``offer`` is the stream that failed, where it was one that offers a recording.
        """
        if offer is not None:
            self._uploaded_bytes += offer.uploaded_bytes
            if error.reason == "DIGEST_MISMATCH":
                raise changed(offer.name) from error
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
