"""The configuration of a realtime transcription session: read from updates, and refused where it cannot be honoured."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from careca.errors import NotFound
from careca_client import LiveEncoding, LiveOptions
from careca_web.openai.fields import invalid, missing, unknown, unsupported

REALTIME_NAMES = ("gpt-live-transcribe", "gpt-realtime-whisper")
"""Names that only realtime sessions have. They stand for the model that is served, as all names of OpenAI do."""

LOGPROBS = "item.input_audio_transcription.logprobs"

_LEAST_PAUSE_MS, _MOST_PAUSE_MS = 200, 5000
_RATE = 24_000
_MOST_KEYWORDS = 100

_FORMATS = {"audio/pcm": "pcm16", "audio/pcmu": "g711_ulaw", "audio/pcma": "g711_alaw"}
_ENCODINGS = {"pcm16": LiveEncoding.PCM, "g711_ulaw": LiveEncoding.MULAW, "g711_alaw": LiveEncoding.ALAW}

_VAD_DEFAULTS: dict[str, Any] = {
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "create_response": False,
    "interrupt_response": False,
    "idle_timeout_ms": None,
}
"""Settings of server_vad that cannot be changed."""


@dataclass(frozen=True, slots=True)
class RealtimeSettings:
    """What a session does. ``pause_ms`` is ``None`` if the caller commits utterances itself."""

    format: str = "pcm16"
    model: str = "whisper-1"
    language: str = ""
    keywords: tuple[str, ...] = ()
    pause_ms: int | None = 500
    logprobs: bool = False

    @property
    def bytes_per_second(self) -> int:
        """The size of a second of audio."""
        return 2 * _RATE if self.format == "pcm16" else 8_000

    def options(self) -> LiveOptions:
        """Returns the options for the client library."""
        return {
            "encoding": _ENCODINGS[self.format],
            "sample_rate": _RATE if self.format == "pcm16" else None,
            "language": self.language or None,
            "hotwords": self.keywords,
            "interim_results": False,
            "display_name": "realtime",
            "utterance_pause": (_MOST_PAUSE_MS if self.pause_ms is None else self.pause_ms) / 1000,
        }

    def session(self, session_id: str) -> dict[str, Any]:
        """Returns OpenAI's description of the session."""
        kind = next(name for name, short in _FORMATS.items() if short == self.format)
        return {
            "id": session_id,
            "object": "realtime.transcription_session",
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"type": kind, "rate": _RATE} if kind == "audio/pcm" else {"type": kind},
                    "noise_reduction": None,
                    "transcription": self._transcription(),
                    "turn_detection": self._turn_detection(),
                }
            },
            "include": [LOGPROBS] if self.logprobs else None,
        }

    def old_session(self, session_id: str) -> dict[str, Any]:
        """Returns the description as it was before ``session.update`` knew transcription."""
        return {
            "id": session_id,
            "object": "realtime.transcription_session",
            "input_audio_format": self.format,
            "input_audio_transcription": self._transcription(),
            "input_audio_noise_reduction": None,
            "turn_detection": self._turn_detection(),
            "include": [LOGPROBS] if self.logprobs else None,
        }

    def _transcription(self) -> dict[str, Any]:
        language = {"language": self.language} if self.language else {}
        keywords = {"keywords": list(self.keywords)} if self.keywords else {}
        return {"model": self.model, **language, **keywords}

    def _turn_detection(self) -> dict[str, Any] | None:
        if self.pause_ms is None:
            return None
        return {
            "type": "server_vad",
            "threshold": _VAD_DEFAULTS["threshold"],
            "prefix_padding_ms": _VAD_DEFAULTS["prefix_padding_ms"],
            "silence_duration_ms": self.pause_ms,
        }


def updated(settings: RealtimeSettings, event: Mapping[str, Any], models: Collection[str]) -> RealtimeSettings:
    """Returns the settings after ``session.update``. What the event does not have stays.

    Raises ``InvalidRequest`` with the parameter that is not valid, not known or cannot be honoured; ``NotFound``
    (MODEL_NOT_FOUND) for a model that is not served.
    """
    session = _object(event.get("session"), "session", {"type", "audio", "include"})
    if session.get("type", "transcription") != "transcription":
        raise unsupported("session.type", "can only be transcription")
    settings = _with_include(settings, session)
    if "audio" not in session:
        return settings
    audio = _object(session["audio"], "session.audio", {"input"})
    path = "session.audio.input"
    known = {"format", "noise_reduction", "transcription", "turn_detection"}
    given = _object(audio.get("input", {}), path, known)
    if "format" in given:
        settings = replace(settings, format=_format(given["format"], f"{path}.format"))
    return _with_input(
        settings,
        models,
        {f"{path}.{name}": given[name] for name in given if name != "format"},
        noise=f"{path}.noise_reduction",
        transcription=f"{path}.transcription",
        turns=f"{path}.turn_detection",
    )


def updated_as_before(
    settings: RealtimeSettings, event: Mapping[str, Any], models: Collection[str]
) -> RealtimeSettings:
    """Returns the settings after ``transcription_session.update``. Raises as ``updated`` does."""
    known = {
        "input_audio_format",
        "input_audio_transcription",
        "input_audio_noise_reduction",
        "turn_detection",
        "include",
    }
    session = _object(event.get("session"), "session", known)
    settings = _with_include(settings, session)
    if "input_audio_format" in session:
        value = session["input_audio_format"]
        if value not in _ENCODINGS:
            raise invalid("session.input_audio_format", f"must be one of {', '.join(_ENCODINGS)}")
        settings = replace(settings, format=value)
    return _with_input(
        settings,
        models,
        {f"session.{name}": session[name] for name in session},
        noise="session.input_audio_noise_reduction",
        transcription="session.input_audio_transcription",
        turns="session.turn_detection",
    )


def _with_input(
    settings: RealtimeSettings,
    models: Collection[str],
    given: dict[str, Any],
    *,
    noise: str,
    transcription: str,
    turns: str,
) -> RealtimeSettings:
    """The settings after those that both kinds of updates have, whose names are ``noise`` and so on."""
    if given.get(noise) is not None:
        raise unsupported(noise, "can only be null: the models take the audio as it is")
    if transcription in given:
        settings = _with_transcription(settings, given[transcription], transcription, models)
    if turns in given:
        settings = replace(settings, pause_ms=_pause_ms(given[turns], turns))
    return settings


def _with_include(settings: RealtimeSettings, session: dict[str, Any]) -> RealtimeSettings:
    if "include" not in session:
        return settings
    include = _texts(session["include"] or [], "session.include")
    if set(include) - {LOGPROBS}:
        raise invalid("session.include", f"can only have {LOGPROBS}")
    return replace(settings, logprobs=bool(include))


def _with_transcription(
    settings: RealtimeSettings, value: object, path: str, models: Collection[str]
) -> RealtimeSettings:
    if value is None:
        raise unsupported(path, "cannot be null: a session does nothing else")
    given = _object(value, path, {"model", "language", "languages", "keywords", "prompt", "delay"})
    if given.get("prompt"):
        raise unsupported(f"{path}.prompt", "has no effect on live words: use keywords")
    if given.get("delay") is not None:
        raise unsupported(f"{path}.delay", "cannot be set: words are final once two readings agree on them")
    if "model" in given:
        settings = replace(settings, model=_model(given["model"], f"{path}.model", models))
    if "languages" in given:
        languages = _texts(given["languages"], f"{path}.languages")
        if len(languages) > 1:
            raise unsupported(f"{path}.languages", "can have one language only: leave it out to detect the language")
        settings = replace(settings, language=languages[0] if languages else "")
    if "language" in given:
        settings = replace(settings, language=_text(given["language"] or "", f"{path}.language"))
    if "keywords" in given:
        keywords = tuple(_texts(given["keywords"] or [], f"{path}.keywords"))
        if len(keywords) > _MOST_KEYWORDS:
            raise invalid(f"{path}.keywords", f"can have {_MOST_KEYWORDS} texts at most")
        settings = replace(settings, keywords=keywords)
    return settings


def _model(value: object, path: str, models: Collection[str]) -> str:
    name = _text(value, path)
    if name not in models:
        raise NotFound(
            f"there is no model {name[:200]}; the models are {', '.join(models)}",
            reason="MODEL_NOT_FOUND",
            field=path,
        )
    return name


def _format(value: object, path: str) -> str:
    given = _object(value, path, {"type", "rate"})
    if given.get("type") not in _FORMATS:
        raise invalid(f"{path}.type", f"must be one of {', '.join(_FORMATS)}")
    if given.get("rate", _RATE) != _RATE and given["type"] == "audio/pcm":
        raise unsupported(f"{path}.rate", f"can only be {_RATE}")
    return _FORMATS[given["type"]]


def _pause_ms(value: object, path: str) -> int | None:
    if value is None:
        return None
    given = _object(value, path, {"type", "silence_duration_ms", "eagerness", *_VAD_DEFAULTS})
    if given.get("type", "server_vad") != "server_vad":
        raise unsupported(f"{path}.type", "can only be server_vad, or turn_detection null")
    if given.get("eagerness") is not None:
        raise unsupported(f"{path}.eagerness", "cannot be set")
    for name, default in _VAD_DEFAULTS.items():
        if given.get(name, default) != default:
            raise unsupported(f"{path}.{name}", f"can only be {default}")
    pause = given.get("silence_duration_ms", 500)
    if type(pause) is not int or not _LEAST_PAUSE_MS <= pause <= _MOST_PAUSE_MS:
        raise invalid(f"{path}.silence_duration_ms", f"must be from {_LEAST_PAUSE_MS} to {_MOST_PAUSE_MS}")
    return pause


def _object(value: object, path: str, known: Collection[str]) -> dict[str, Any]:
    if value is None:
        raise missing(path)
    if not isinstance(value, dict):
        raise invalid(path, "must be an object")
    for name in value:
        if name not in known:
            raise unknown(f"{path}.{name[:100]}")
    return value


def _text(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise invalid(path, "must be text")
    return value


def _texts(value: object, path: str) -> list[str]:
    if not isinstance(value, list):
        raise invalid(path, "must be a list")
    return [_text(each, path) for each in value]
