"""The fields of a request's form: what each of them is, and reading them as text, numbers and lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile

from careca.errors import InvalidRequest

_LIST: dict[str, Any] = {"type": "array", "items": {"type": "string"}}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the form, as OpenAPI describes it."""

    description: str
    schema: dict[str, Any]
    translations: bool = True
    """Whether translations have it too."""

    @property
    def is_list(self) -> bool:
        """Whether it may be sent several times, with or without ``[]`` at the end of its name."""
        return bool(self.schema["type"] == "array")


_TEXT: dict[str, Any] = {"type": "string"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 1}

FIELDS: Mapping[str, Field] = {
    "file": Field("The recording, in any container and codec.", {"type": "string", "format": "binary"}),
    "model": Field(
        "A name of /v1/models. All names stand for the model that is served.", _TEXT | {"default": "whisper-1"}
    ),
    "language": Field("The language spoken: a code, a tag or a name. Without it, it is detected.", _TEXT),
    "languages": Field("A list with one language: the same as language.", _LIST, translations=False),
    "prompt": Field("Text that the model takes as said before the recording: names, spelling, style.", _TEXT),
    "response_format": Field(
        "What to return.",
        _TEXT | {"enum": ["json", "text", "srt", "vtt", "verbose_json", "diarized_json"], "default": "json"},
    ),
    "temperature": Field("Only 0: the model decodes with a beam search.", {"type": "number", "enum": [0]}),
    "timestamp_granularities": Field(
        "What verbose_json contains. Default: segment.",
        {"type": "array", "items": {"type": "string", "enum": ["word", "segment"]}},
        translations=False,
    ),
    "include": Field(
        "logprobs adds the log probability of each word. Only with json.",
        {"type": "array", "items": {"type": "string", "enum": ["logprobs"]}},
        translations=False,
    ),
    "chunking_strategy": Field(
        "auto, or server_vad without parameters: recordings are always cut at pauses of speech.",
        _TEXT,
        translations=False,
    ),
    "stream": Field(
        "Whether to send the text as server-sent events while the work goes on.",
        {"type": "boolean"},
        translations=False,
    ),
    "known_speaker_names": Field("The names of people to recognise.", _LIST),
    "known_speaker_references": Field(
        "For each name a recording of this person alone, as a data URL. At most 8 MiB together.", _LIST
    ),
    "keywords": Field("Words and phrases to listen for.", _LIST),
    "hotwords": Field("Beyond OpenAI: the same as keywords.", _LIST),
    "speaker_count": Field("Beyond OpenAI: the exact number of speakers.", _COUNT),
    "min_speaker_count": Field("Beyond OpenAI: the smallest number of speakers.", _COUNT),
    "max_speaker_count": Field("Beyond OpenAI: the greatest number of speakers.", _COUNT),
    "channel_mode": Field(
        "Beyond OpenAI: mix, or separate if each channel is one speaker.", _TEXT | {"enum": ["mix", "separate"]}
    ),
    "use_saved_voices": Field("Beyond OpenAI: whether to recognise the caller's saved voices.", {"type": "boolean"}),
    "audio_track": Field("Beyond OpenAI: auto, all, each, or the number of an audio track from 1.", _TEXT),
}


def form_schema(*, translations: bool) -> dict[str, Any]:
    """Returns the form as OpenAPI describes a request's body."""
    fields = {name: field for name, field in FIELDS.items() if field.translations or not translations}
    properties = {
        f"{name}[]" if field.is_list else name: {**field.schema, "description": field.description}
        for name, field in fields.items()
    }
    schema = {"type": "object", "required": ["file", "model"], "properties": properties}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


class Fields:
    """Reads the fields of one form. An empty field is one that was not sent.

    Args:
        form: the form.
        translations: whether it is for a translation.

    Raises ``InvalidRequest`` (UNKNOWN_PARAMETER) for a field that the endpoint does not have: a misspelt name would
    change nothing, and nobody would notice.
    """

    def __init__(self, form: FormData, *, translations: bool) -> None:
        self._form = form
        for name in form:
            field = FIELDS.get(base_name(name))
            if (
                field is None
                or (translations and not field.translations)
                or (name.endswith("[]") and not field.is_list)
            ):
                raise unknown(name[:200])

    def file(self, name: str) -> UploadFile:
        """Returns an uploaded file."""
        files = self._form.getlist(name)
        if not files:
            raise missing(name)
        if len(files) > 1 or not isinstance(files[0], UploadFile):
            raise invalid(name, "must be one uploaded file, with a file name")
        return files[0]

    def text(self, name: str) -> str:
        """Returns the text of a field, without spaces around it; empty if it was not sent."""
        texts = self._texts(name)
        if len(texts) > 1:
            raise invalid(name, "was sent more than once")
        return texts[0].strip() if texts else ""

    def texts(self, name: str) -> list[str]:
        """Returns the texts of a list, which may have been sent with ``[]`` at the end of its name."""
        return [text for text in (*self._texts(name), *self._texts(f"{name}[]")) if text]

    def flag(self, name: str) -> bool:
        """Returns whether a field is true."""
        text = self.text(name).lower()
        if text not in {"", "true", "false", "1", "0"}:
            raise invalid(name, "must be true or false")
        return text in {"true", "1"}

    def integer(self, name: str) -> int | None:
        """Returns a whole number; ``None`` if it was not sent."""
        text = self.text(name)
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise invalid(name, f"must be a whole number, but is {text[:40]!r}") from None

    def members(self, name: str) -> dict[str, str]:
        """Returns the members of an object that was sent as ``name[member]``, with their texts."""
        prefix = f"{name}["
        members = (key for key in self._form if key.startswith(prefix) and key.endswith("]"))
        return {key[len(prefix) : -1]: self.text(key) for key in members}

    def _texts(self, name: str) -> list[str]:
        values = self._form.getlist(name)
        texts = [value for value in values if isinstance(value, str)]
        if len(texts) < len(values):
            raise invalid(name, "must be text, not a file")
        return texts


def base_name(name: str) -> str:
    """Returns the field that ``name``, ``name[]`` or ``name[member]`` belongs to."""
    return name.partition("[")[0]


def unknown(name: str) -> InvalidRequest:
    """The error for a field that does not exist."""
    return InvalidRequest(f"there is no field {name} here", reason="UNKNOWN_PARAMETER", field=name)


def missing(name: str) -> InvalidRequest:
    """The error for a field that must be sent."""
    return InvalidRequest(f"{name} is missing", reason="MISSING_REQUIRED_PARAMETER", field=name)


def invalid(name: str, rule: str) -> InvalidRequest:
    """The error for a field whose value is not valid."""
    return InvalidRequest(f"{name} {rule}", reason="INVALID_VALUE", field=name)


def unsupported(name: str, rule: str) -> InvalidRequest:
    """The error for a value that OpenAI accepts and Careca cannot honour."""
    return InvalidRequest(f"{name} {rule}", reason="UNSUPPORTED_VALUE", field=name)
