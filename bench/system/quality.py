"""How right the answers are: every recording through the whole stack, scored against the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.common.asking import ask
from bench.common.dataset import Recording
from bench.common.scoring import DiarizationErrors, WordErrors, score_text, score_turns, score_utterances
from bench.system.results import QualityRow, Request, TurnRates, WordRates
from careca_client import Client, TranscriptionResult

_Errors = TypeVar("_Errors", DiarizationErrors, WordErrors)


@dataclass(frozen=True, slots=True)
class Score:
    """One recording's answer against its truth; errors are ``None`` where there is no truth of that kind."""

    recording: Recording
    audio_seconds: float
    request: Request
    models: tuple[str, ...]
    right_language: bool
    turns: DiarizationErrors | None = None
    utterances: WordErrors | None = None
    text: WordErrors | None = None


def measure(client: Client, recordings: Sequence[Recording], announce: Callable[[str], None]) -> list[Score]:
    """Transcribes ``recordings`` one after the other, past the caches, and scores each."""
    scores = []
    for number, recording in enumerate(recordings, 1):
        request, result = ask(client, recording.path, skip_cache=True)
        scores.append(score(recording, result, request))
        announce(f"[{number}/{len(recordings)}] {recording.folder}/{_summary(scores[-1])}")
    return scores


def score(recording: Recording, result: TranscriptionResult, request: Request) -> Score:
    """``result``, that ``request`` was answered with, against the truth about ``recording``."""
    spoken = " ".join(each.text for each in result.utterances)
    return Score(
        recording=recording,
        audio_seconds=result.duration,
        request=request,
        models=(result.transcription_model, result.diarization_model),
        right_language=result.language == recording.language,
        turns=None if recording.turns is None else score_turns(recording.turns, result.turns, result.duration),
        utterances=None
        if recording.utterances is None
        else score_utterances(recording.utterances, result.utterances, recording.language),
        text=None if recording.text is None else score_text(recording.text, spoken, recording.language),
    )


def by_folder(scores: Sequence[Score]) -> tuple[QualityRow, ...]:
    """Conversations: a row for each folder, and one for all of them."""
    return _rows(scores, lambda each: each.recording.folder, "all conversations")


def by_language(scores: Sequence[Score]) -> tuple[QualityRow, ...]:
    """Read speech: a row for each language, and one for all of them."""
    return _rows(scores, lambda each: f"{each.recording.folder} {each.recording.language}", "all read speech")


def single(scores: Sequence[Score]) -> tuple[QualityRow, ...]:
    """A row for each recording."""
    return tuple(row(f"{each.recording.folder}/{each.recording.name}", [each]) for each in scores)


def row(name: str, scores: Sequence[Score]) -> QualityRow:
    """Rates of ``scores`` together: total errors over total reference."""
    turns = _total((each.turns for each in scores), DiarizationErrors())
    utterances = _total((each.utterances for each in scores), WordErrors())
    text = _total((each.text for each in scores), WordErrors())
    stages = dict.fromkeys(stage for each in scores for stage in each.request.stage_seconds)
    return QualityRow(
        name=name,
        recordings=len(scores),
        audio_seconds=sum(each.audio_seconds for each in scores),
        whole_seconds=sum(each.request.seconds for each in scores),
        stage_seconds={stage: sum(each.request.stage_seconds.get(stage, 0.0) for each in scores) for stage in stages},
        turns=None if turns is None else _turn_rates(turns),
        utterances=None if utterances is None else _word_rates(utterances),
        text=None if text is None else _word_rates(text),
        right_languages=sum(each.right_language for each in scores),
    )


def _turn_rates(errors: DiarizationErrors) -> TurnRates:
    return TurnRates(
        speech_seconds=errors.speech,
        der=errors.der,
        missed=errors.rate(errors.missed),
        false_alarm=errors.rate(errors.false_alarm),
        confusion=errors.rate(errors.confusion),
        recordings=errors.recordings,
        right_speaker_counts=errors.right_speaker_counts,
    )


def _word_rates(errors: WordErrors) -> WordRates:
    return WordRates(
        words=errors.reference,
        error_rate=errors.error_rate,
        substitutions=errors.rate(errors.substitutions),
        deletions=errors.rate(errors.deletions),
        insertions=errors.rate(errors.insertions),
    )


def _rows(scores: Sequence[Score], key: Callable[[Score], str], name_of_all: str) -> tuple[QualityRow, ...]:
    groups = dict.fromkeys(key(each) for each in scores)
    rows = [row(group, [each for each in scores if key(each) == group]) for group in groups]
    return (*rows, row(name_of_all, scores)) if rows else ()


def _total(errors: Iterable[_Errors | None], zero: _Errors) -> _Errors | None:
    known = [each for each in errors if each is not None]
    return sum(known, zero) if known else None


def _summary(score: Score) -> str:
    one = row(score.recording.name, [score])
    rates = (
        ("DER", one.turns and one.turns.der),
        ("cpWER", one.utterances and one.utterances.error_rate),
        ("WER", one.text and one.text.error_rate),
    )
    texts = [f"{name} {rate:.3f}" for name, rate in rates if rate is not None]
    return f"{one.name}: {one.audio_seconds:.0f} s in {one.whole_seconds:.1f} s; {', '.join(texts)}"
