"""JSON with everything that is known about the recording. Times are seconds, rounded to milliseconds."""

from __future__ import annotations

import json
from typing import Any

from careca.types import Digest, Notice, Result, Speaker, StageState, Turn, Utterance, Word

_EMBEDDING_DECIMALS = 7
"""Embeddings are 32-bit numbers, which have this precision."""


def json_text(result: Result, name: str) -> str:
    """Returns one JSON object. It contains nothing about the request itself, such as the seconds that stages took."""
    return json.dumps(_document(result, name), ensure_ascii=False) + "\n"


def _document(result: Result, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "revision": result.revision,
        "recording": _digest(result.recording),
        "audio": _digest(result.audio),
        "duration": _time(result.duration),
        "language": result.language,
        "language_probability": round(result.language_probability, 4),
        "partial": result.partial,
        "failures": [
            {"stage": report.stage.value, "reason": report.error_reason, "message": report.error_message}
            for report in result.stages
            if report.state is StageState.FAILED
        ],
        "notices": [_notice(notice) for notice in result.notices],
        "speakers": [_speaker(speaker) for speaker in result.speakers],
        "channels": [{"audio": _digest(channel.audio), "speaker": channel.speaker} for channel in result.channels],
        "utterances": [_utterance(utterance) for utterance in result.utterances],
        "turns": [_turn(turn) for turn in result.turns],
        "exclusive_turns": [_turn(turn) for turn in result.exclusive_turns],
        "speaker_count_candidates": [
            {"speaker_count": candidate.speaker_count, "silhouette_score": candidate.silhouette_score}
            for candidate in result.candidates
        ],
        "transcription_model": result.transcription_model,
        "diarization_model": result.diarization_model,
    }


def _digest(digest: Digest) -> dict[str, Any]:
    return {"sha256": digest.sha256, "size_bytes": digest.size_bytes}


def _speaker(speaker: Speaker) -> dict[str, Any]:
    return {
        "label": speaker.label,
        "name": speaker.name,
        "similarity": None if speaker.similarity is None else round(speaker.similarity, 4),
        "embedding_model": speaker.embedding_model,
        "embedding": [round(value, _EMBEDDING_DECIMALS) for value in speaker.embedding],
    }


def _notice(notice: Notice) -> dict[str, Any]:
    return {
        "code": notice.code,
        "message": notice.message,
        "start": _time(notice.start),
        "end": _time(notice.end),
    }


def _utterance(utterance: Utterance) -> dict[str, Any]:
    return {
        "start": _time(utterance.start),
        "end": _time(utterance.end),
        "speaker": utterance.speaker,
        "language": utterance.language,
        "text": utterance.text,
        "words": [_word(word) for word in utterance.words],
    }


def _word(word: Word) -> dict[str, Any]:
    return {
        "text": word.text,
        "start": _time(word.start),
        "end": _time(word.end),
        "probability": None if word.probability is None else round(word.probability, 4),
        "speaker": word.speaker,
    }


def _turn(turn: Turn) -> dict[str, Any]:
    return {"start": _time(turn.start), "end": _time(turn.end), "speaker": turn.speaker}


def _time(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
