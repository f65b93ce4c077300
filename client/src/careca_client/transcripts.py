"""Transcripts as files: the JSON format of a result, edited by a person or a program."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from careca.errors import InvalidRequest
from careca.types import Utterance, Word

_MAX_SECONDS = 1e9
"""More than any recording: a duration in protobuf cannot hold every number."""


@dataclass(frozen=True, slots=True)
class EditedTranscript:
    """The utterances of a file, and the revision that they were made of."""

    utterances: tuple[Utterance, ...]
    revision: int | None
    """``None`` if the file does not say it."""


def read_transcript(path: str | os.PathLike[str]) -> EditedTranscript:
    """Reads the utterances from a file in the JSON format of a result. Everything else in it is ignored.

    An utterance needs ``start``, ``end`` and ``text``. Without ``words`` the gateway makes them.

    Raises ``OSError`` if the file cannot be read, ``InvalidRequest`` if it is not such a file.
    """
    document = _document(path)
    utterances = (_utterance(each, path, index) for index, each in enumerate(document["utterances"]))
    return EditedTranscript(tuple(utterances), document.get("revision"))


def _document(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        document = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError):  # RecursionError: nested too deeply
        document = None
    if (
        isinstance(document, dict)
        and isinstance(document.get("utterances"), list)
        and isinstance(document.get("revision"), int | None)
    ):
        return document
    raise InvalidRequest(
        f"{os.fspath(path)} is not a transcript: it must be a JSON object with utterances, "
        "as `careca result JOB --format json` writes it"
    )


def _utterance(values: Mapping[str, Any], path: str | os.PathLike[str], index: int) -> Utterance:
    try:
        return Utterance(
            start=_time(values["start"]),
            end=_time(values["end"]),
            text=_text(values["text"]),
            speaker=None if values.get("speaker") is None else _text(values["speaker"]),
            words=tuple(map(_word, values.get("words") or ())),
            language=_text(values.get("language") or ""),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidRequest(
            f"utterance {index} in {os.fspath(path)} cannot be used ({type(error).__name__}: {error}): it needs start "
            "and end in seconds, and text; speaker, language and words are optional",
            field=f"utterances[{index}]",
        ) from None


def _word(values: Mapping[str, Any]) -> Word:
    start, end, probability = (values.get(name) for name in ("start", "end", "probability"))
    return Word(
        text=_text(values["text"]),
        start=None if start is None else _time(start),
        end=None if end is None else _time(end),
        probability=None if probability is None else float(probability),
    )


def _time(value: Any) -> float:
    seconds = float(value)
    if not abs(seconds) <= _MAX_SECONDS:
        raise ValueError(f"{value} is no time in a recording")
    return seconds


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    value.encode()  # raises ValueError if it has half a character, which JSON can express
    return value
