"""The options of a job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from careca import types
from careca.errors import InvalidRequest
from careca_client import TranscribeOptions

_GATEWAY_PREFIXES = ("config.transcription.", "config.diarization.", "config.cache_control.", "config.")


def _number_if_digits(value: object) -> object:
    """Form fields are text, and a track is a number or a word."""
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else value


class Options(BaseModel):
    """How to process a recording. The services choose what is left out."""

    model_config = ConfigDict(extra="forbid")

    language: str | None = Field(
        default=None,
        max_length=100,
        description="The language spoken: a code (pt), a tag (pt-BR) or a name (Portuguese). Detected if left out.",
        examples=["en"],
    )
    translate: bool = Field(default=False, description="Whether to translate to English.")
    initial_prompt: str = Field(
        default="", max_length=1000, description="Text taken as said before the recording: names, spelling, style."
    )
    hotwords: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(
        default_factory=list, max_length=100, description="Words and phrases to listen for."
    )
    beam_size: int | None = Field(default=None, ge=1, le=20, description="Width of the beam search; 1 is fastest.")
    speaker_count: int | None = Field(default=None, ge=1, le=50, description="The exact number of speakers.")
    min_speaker_count: int | None = Field(default=None, ge=1, le=50, description="The smallest number of speakers.")
    max_speaker_count: int | None = Field(default=None, ge=1, le=50, description="The greatest number of speakers.")
    channel_mode: types.ChannelMode = Field(
        default=types.ChannelMode.MIX, description="separate: each channel is one speaker."
    )
    audio_track: Annotated[
        types.AudioTracks | Annotated[int, Field(ge=1, le=999)], BeforeValidator(_number_if_digits)
    ] = Field(
        default=types.AudioTracks.AUTO,
        description="The number of an audio track; all: mixed; each: each track is one speaker; auto: one is chosen.",
    )
    use_saved_voices: bool = Field(default=False, description="Whether to recognise the saved voices of the caller.")
    skip_cache: bool = Field(default=False, description="Whether to compute again even if the result is cached.")

    def value(self, name: str) -> TranscribeOptions:
        """Returns the options for the client library. ``name`` is the name of the recording to show."""
        options = cast("TranscribeOptions", self.model_dump())  # the same names and types
        options["display_name"] = name or None
        return options


@contextmanager
def named_as_in_http() -> Iterator[None]:
    """Inside, errors name the fields of a job's options as this API does, not as the gateway's messages do."""
    try:
        yield
    except InvalidRequest as error:
        if not error.field.startswith("config."):
            raise
        raise type(error)(
            _renamed(error.message), reason=error.reason, field=_renamed(error.field), metadata=error.metadata
        ) from error


def _renamed(text: str) -> str:
    for prefix in _GATEWAY_PREFIXES:
        text = text.replace(prefix, "options.")
    return text
