"""The JSON of live sessions: the messages of callers, and the events."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from careca import languages, types
from careca.errors import InvalidRequest
from careca_client import (
    LiveEncoding,
    LiveEnded,
    LiveEvent,
    LiveFinal,
    LiveInterim,
    LiveNotice,
    LiveOptions,
    LiveReconnecting,
    LiveResult,
    LiveStarted,
    SpeakerCorrection,
    UtteranceEnd,
)
from careca_web.api.models.jobs import Word

_KINDS: dict[type[Any], str] = {
    LiveStarted: "started",
    LiveInterim: "interim",
    LiveFinal: "final",
    SpeakerCorrection: "speaker_correction",
    UtteranceEnd: "utterance_end",
    LiveNotice: "notice",
    LiveEnded: "ended",
    LiveResult: "result",
    LiveReconnecting: "reconnecting",
}

_FIELD_NAMES = {"language_code": "language", "sample_rate_hertz": "sample_rate", "channel_count": "channels"}


class LiveConfig(BaseModel):
    """The first message. To continue a session, only ``session_id`` and ``after_event`` count."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["config"] = "config"
    session_id: str = Field(default="", max_length=200)
    after_event: int = Field(default=0, ge=0, le=2**63 - 1)
    encoding: LiveEncoding = LiveEncoding.PCM
    sample_rate: int | None = Field(default=None, ge=8_000, le=48_000)
    channels: int | None = Field(default=None, ge=1, le=2)
    channel_mode: types.ChannelMode = types.ChannelMode.MIX
    language: str | None = Field(default=None, max_length=100)
    hotwords: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(default_factory=list, max_length=100)
    speaker_count: int | None = Field(default=None, ge=1, le=50)
    min_speaker_count: int | None = Field(default=None, ge=1, le=50)
    max_speaker_count: int | None = Field(default=None, ge=1, le=50)
    use_saved_voices: bool = False
    display_name: str | None = Field(default=None, max_length=255)
    interim_results: bool = True
    utterance_pause: float | None = Field(default=None, ge=0.2, le=5)

    def value(self) -> LiveOptions:
        """Returns the options for the client library."""
        options = self.model_dump(exclude={"type", "session_id", "after_event"})
        return cast("LiveOptions", options)  # the same names and types


class LiveFlush(BaseModel):
    """Asks for all words that were said so far as final ones."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["flush"]


class LiveEnd(BaseModel):
    """Says that the audio ends here."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["end"]


COMMAND: TypeAdapter[LiveFlush | LiveEnd] = TypeAdapter(Annotated[LiveFlush | LiveEnd, Field(discriminator="type")])
"""Reads the JSON messages after the first one."""


def event_json(event: LiveEvent) -> dict[str, Any]:
    """Returns an event as JSON, without the result itself."""
    kind = {"type": _KINDS[type(event)]}
    if isinstance(event, LiveReconnecting):
        error = {"reason": event.error.reason, "message": event.error.message}
        return kind | {"attempt": event.attempt, "delay_seconds": event.delay_seconds, "error": error}
    return (
        kind
        | {
            "event_number": event.event_number,
            "audio_seconds": event.audio_seconds,
            "behind_seconds": event.behind_seconds,
        }
        | _content(event)
    )


def _content(event: LiveEvent) -> dict[str, Any]:
    match event:
        case LiveStarted():
            return {"session_id": event.session_id, "received_bytes": event.received_bytes}
        case LiveInterim():
            return _speech(event)
        case LiveFinal():
            return {"first_word": event.first_word, "channel": event.channel} | _speech(event)
        case UtteranceEnd():
            return {"channel": event.channel}
        case SpeakerCorrection():
            return {"first_word": event.first_word, "word_count": event.word_count, "speaker": event.speaker}
        case LiveNotice(notice=notice):
            return {"code": notice.code, "message": notice.message, "start": notice.start, "end": notice.end}
        case LiveEnded():
            return {"job_id": event.job_id or None}
    return {}


def _speech(event: LiveInterim | LiveFinal) -> dict[str, Any]:
    words = [Word.from_value(word).model_dump() | {"speaker": word.speaker} for word in event.words]
    return {"language": event.language, "text": joined(event.words, event.language), "words": words}


def joined(words: Iterable[types.Word], language: str) -> str:
    """Returns the text of words, with spaces between them unless their language has none."""
    texts = [word.text for word in words]
    whole = "".join(texts)
    return whole if languages.is_unspaced(whole, language) else " ".join(texts)


def named_as_here(error: InvalidRequest) -> InvalidRequest:
    """Returns the error with the name of a field as it is in ``LiveConfig``, not as it is in the gateway's messages."""
    if not error.field.startswith("config."):
        return error
    field = re.sub(r"^config\.(transcription\.|diarization\.)?", "", error.field)
    for theirs, ours in _FIELD_NAMES.items():
        field = field.replace(theirs, ours)
    message = error.message.replace(error.field, field)
    return type(error)(message, reason=error.reason, field=field, metadata=error.metadata)
