"""A result in the forms of OpenAI's API."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from careca import languages
from careca.errors import CarecaError, InternalError, OutOfMemory, Unavailable
from careca.types import OutputFormat, Segment, Stage, StageState, Utterance, Word
from careca_client import TranscriptionResult
from careca_web.openai.request import AudioRequest, ResponseFormat

TEXT_FORMATS = {ResponseFormat.SRT: OutputFormat.SRT, ResponseFormat.VTT: OutputFormat.VTT}
"""Response formats that the gateway writes."""

_IMPOSSIBLE = -9999.0
"""The log probability of a word with probability 0, for which JSON has no number."""


def check_complete(request: AudioRequest, result: TranscriptionResult) -> None:
    """Raises the error of a failed stage without which the response would be wrong. OpenAI has no partial results.

    The transcription is always needed, and the speakers for diarized_json.
    """
    needed = {Stage.TRANSCRIBE}
    if request.response_format is ResponseFormat.DIARIZED_JSON:
        needed.add(Stage.DIARIZE)
    for report in result.stages:
        if report.stage in needed and report.state is StageState.FAILED:
            raise _error_of(report.error_reason, f"{report.stage} failed: {report.error_message}")


def full_text(result: TranscriptionResult) -> str:
    """Returns all that was said, in one line."""
    return "".join(map(with_space, result.utterances)).strip()


def with_space(part: Utterance | Segment) -> str:
    """Returns the text with the space that separates it from the text before it."""
    text = part.text.strip()
    return text if languages.is_unspaced(text, part.language) else f" {text}"


def json_body(request: AudioRequest, result: TranscriptionResult) -> dict[str, Any]:
    """Returns the body for response_format json, verbose_json or diarized_json."""
    match request.response_format:
        case ResponseFormat.VERBOSE_JSON:
            return _verbose(request, result)
        case ResponseFormat.DIARIZED_JSON:
            return _diarized(result)
    if request.translate:
        return {"text": full_text(result)}
    logprobs = {"logprobs": logprobs_of(all_words(result))} if request.logprobs else {}
    return {"text": full_text(result), "languages": languages_of(result), **logprobs, "usage": _usage(result)}


def diarized_segments(result: TranscriptionResult) -> Iterator[dict[str, Any]]:
    """Yields the utterances as segments with speakers."""
    for index, utterance in enumerate(result.utterances):
        yield {
            "type": "transcript.text.segment",
            "id": f"seg_{index}",
            "start": utterance.start,
            "end": utterance.end,
            "text": utterance.text,
            "speaker": utterance.speaker or "",
        }


def languages_of(result: TranscriptionResult) -> list[dict[str, str]]:
    """Returns the languages spoken: first the main one, then the others in the order in which they occur."""
    codes = dict.fromkeys((result.language, *(utterance.language for utterance in result.utterances)))
    return [{"code": code} for code in codes if code]


def logprobs_of(words: Iterable[Word]) -> list[dict[str, Any]]:
    """Returns the words as tokens with the logarithms of their probabilities."""
    return [
        {"token": word.text, "bytes": list(word.text.encode()), "logprob": _logprob(word.probability)} for word in words
    ]


def all_words(result: TranscriptionResult) -> list[Word]:
    """Returns all words in order."""
    return [word for utterance in result.utterances for word in utterance.words]


def _diarized(result: TranscriptionResult) -> dict[str, Any]:
    return {
        "task": "transcribe",
        "duration": result.duration,
        "text": full_text(result),
        "segments": list(diarized_segments(result)),
        "usage": _usage(result),
    }


def _verbose(request: AudioRequest, result: TranscriptionResult) -> dict[str, Any]:
    body: dict[str, Any] = {
        "task": "translate" if request.translate else "transcribe",
        "language": "english" if request.translate else languages.name_of(result.language).lower(),
        "duration": result.duration,
        "text": full_text(result),
    }
    if "word" in request.granularities:
        body["words"] = [word for utterance in result.utterances for word in _words(utterance)]
    if "segment" in request.granularities:
        body["segments"] = [_segment(index, utterance) for index, utterance in enumerate(result.utterances)]
    return body | {"usage": _usage(result)}


def _segment(index: int, utterance: Utterance) -> dict[str, Any]:
    """Returns an utterance as a segment.

    The gateway does not know the decoder's windows, its tokens and its probability of silence: ``seek``, ``tokens`` and
    ``no_speech_prob`` are 0 and empty.
    """
    logprobs = [_logprob(word.probability) for word in utterance.words]
    known = [value for value in logprobs if value is not None]
    text = utterance.text.encode()
    return {
        "id": index,
        "seek": 0,
        "start": utterance.start,
        "end": utterance.end,
        "text": utterance.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": sum(known) / len(known) if known else 0.0,
        "compression_ratio": len(text) / len(zlib.compress(text)),
        "no_speech_prob": 0.0,
        "speaker": utterance.speaker,
    }


def _words(utterance: Utterance) -> Iterator[dict[str, Any]]:
    """Yields the words with their times. A word for which the model gave no time follows the word before it."""
    end = utterance.start
    for word in utterance.words:
        start = end if word.start is None else word.start
        end = start if word.end is None else word.end
        yield {"word": word.text, "start": start, "end": end, "speaker": word.speaker, "probability": word.probability}


def _logprob(probability: float | None) -> float | None:
    if probability is None:
        return None
    return math.log(probability) if probability > 0 else _IMPOSSIBLE


def _usage(result: TranscriptionResult) -> dict[str, Any]:
    return {"type": "duration", "seconds": result.duration}


def _error_of(reason: str, message: str) -> CarecaError:
    error_class = next((each for each in (OutOfMemory, InternalError) if each.default_reason == reason), Unavailable)
    return error_class(message, reason=reason)
