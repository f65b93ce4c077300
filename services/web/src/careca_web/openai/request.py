"""What a caller asks for: read from the form, and refused where it cannot be honoured."""

from __future__ import annotations

import base64
import binascii
import enum
import json
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from starlette.datastructures import FormData, UploadFile

from careca.types import AudioTracks, ChannelMode
from careca_client import GatewayInfo, KnownSpeaker, TranscribeOptions
from careca_web.http.file_names import received_name
from careca_web.openai.fields import Fields, invalid, missing, unsupported
from careca_web.openai.models import check_model


class ResponseFormat(enum.StrEnum):
    """The forms of a response."""

    JSON = "json"
    TEXT = "text"
    SRT = "srt"
    VTT = "vtt"
    VERBOSE_JSON = "verbose_json"
    DIARIZED_JSON = "diarized_json"


_STREAMABLE = (ResponseFormat.JSON, ResponseFormat.TEXT, ResponseFormat.DIARIZED_JSON)
_GRANULARITIES = ("word", "segment")


@dataclass(frozen=True, slots=True)
class AudioRequest:
    """One valid request."""

    file: UploadFile
    options: TranscribeOptions
    """For the client. The client itself checks the ranges."""
    response_format: ResponseFormat
    granularities: frozenset[str]
    """What verbose_json contains: word, segment, or both."""
    logprobs: bool
    stream: bool
    translate: bool

    @property
    def in_order(self) -> bool:
        """Whether the segments come in the order of the result: not if channels or tracks follow one another."""
        return (
            self.options.get("channel_mode") != ChannelMode.SEPARATE
            and self.options.get("audio_track") != AudioTracks.EACH
        )


def read_request(form: FormData, info: GatewayInfo, *, translate: bool) -> AudioRequest:
    """Returns what the form asks for.

    Raises ``InvalidRequest`` with the name of the field that is missing, not valid, not known or cannot be honoured;
    ``NotFound`` (MODEL_NOT_FOUND) for a model that is not served.
    """
    fields = Fields(form, translations=translate)
    file = fields.file("file")
    if not (model := fields.text("model")):
        raise missing("model")
    check_model(info, model)
    _check_temperature(fields)
    _check_chunking(fields)
    response_format = _response_format(fields, translate=translate)
    granularities = fields.texts("timestamp_granularities")
    if granularities and response_format is not ResponseFormat.VERBOSE_JSON:
        raise invalid("timestamp_granularities", "can only be used with response_format verbose_json")
    if unknown := set(granularities) - set(_GRANULARITIES):
        raise invalid("timestamp_granularities", f"must be word or segment, but is {min(unknown)[:40]!r}")
    include = fields.texts("include")
    if unknown := set(include) - {"logprobs"}:
        raise invalid("include", f"must be logprobs, but is {min(unknown)[:40]!r}")
    if include and response_format is not ResponseFormat.JSON:
        raise invalid("include", "can only have logprobs with response_format json")
    stream = fields.flag("stream")
    if stream and response_format not in _STREAMABLE:
        raise unsupported(
            "response_format", f"must be one of {', '.join(_STREAMABLE)} with stream, but is {response_format}"
        )
    return AudioRequest(
        file=file,
        options=_options(fields, file, translate=translate),
        response_format=response_format,
        granularities=frozenset(granularities or ("segment",)),
        logprobs=bool(include),
        stream=stream,
        translate=translate,
    )


def _options(fields: Fields, file: UploadFile, *, translate: bool) -> TranscribeOptions:
    options: TranscribeOptions = {
        "translate": translate,
        "language": _language(fields),
        "initial_prompt": fields.text("prompt"),
        "hotwords": [*fields.texts("keywords"), *fields.texts("hotwords")],
        "speaker_count": fields.integer("speaker_count"),
        "min_speaker_count": fields.integer("min_speaker_count"),
        "max_speaker_count": fields.integer("max_speaker_count"),
        "known_speakers": _known_speakers(fields),
        "use_saved_voices": fields.flag("use_saved_voices"),
        "display_name": received_name(file.filename) or None,
    }
    if mode := fields.text("channel_mode"):
        options["channel_mode"] = mode
    if track := fields.text("audio_track"):
        options["audio_track"] = int(track) if track.isascii() and track.isdecimal() and len(track) < 10 else track
    return options


def _language(fields: Fields) -> str | None:
    languages = fields.texts("languages")
    if len(languages) > 1:
        raise unsupported(
            "languages", "can have one language only: leave it out, and the languages spoken are detected"
        )
    if languages and fields.text("language"):
        raise invalid("languages", "cannot be combined with language")
    return fields.text("language") or (languages[0] if languages else None)


def _response_format(fields: Fields, *, translate: bool) -> ResponseFormat:
    text = fields.text("response_format") or ResponseFormat.JSON
    formats = [each for each in ResponseFormat if not translate or each is not ResponseFormat.DIARIZED_JSON]
    if text not in formats:
        raise invalid("response_format", f"must be one of {', '.join(formats)}, but is {text[:40]!r}")
    return ResponseFormat(text)


def _check_temperature(fields: Fields) -> None:
    text = fields.text("temperature")
    try:
        temperature = float(text or 0)
    except ValueError:
        raise invalid("temperature", f"must be a number, but is {text[:40]!r}") from None
    if temperature != 0:
        raise unsupported("temperature", "can only be 0: the model decodes with a beam search, which does not sample")


def _check_chunking(fields: Fields) -> None:
    """Recordings are always cut at pauses of speech, so that auto is what happens anyway."""
    name = "chunking_strategy"
    text, members = fields.text(name), fields.members(name)
    if text.startswith("{"):
        try:
            members = json.loads(text)
        except (ValueError, RecursionError):
            raise invalid(name, "is not valid JSON") from None
    elif text not in {"", "auto"}:
        raise invalid(name, f"must be auto or an object of the type server_vad, but is {text[:40]!r}")
    kind = members.pop("type", "server_vad")
    if kind != "server_vad":
        raise invalid(f"{name}.type", "must be server_vad")
    for member in members:
        raise unsupported(f"{name}.{member[:40]}", "cannot be set: the transcriber finds the pauses of speech itself")


def _known_speakers(fields: Fields) -> list[KnownSpeaker]:
    names, references = fields.texts("known_speaker_names"), fields.texts("known_speaker_references")
    if len(names) != len(references):
        raise invalid(
            "known_speaker_references",
            f"must have one recording for each of the names, but there are {len(references)} for {len(names)}",
        )
    return [
        KnownSpeaker(name, _data_of(reference, f"known_speaker_references[{index}]"))
        for index, (name, reference) in enumerate(zip(names, references, strict=True))
    ]


def _data_of(url: str, field: str) -> bytes:
    """Returns the bytes of a data URL (RFC 2397)."""
    header, comma, content = url.strip().partition(",")
    if not comma or header[:5].lower() != "data:":
        raise invalid(field, "must be a data URL, such as data:audio/wav;base64,UklGRi...")
    data = unquote_to_bytes(content)
    if not header.lower().endswith(";base64"):
        return data
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise invalid(field, "is not valid base64") from None
