"""Error rates as the field defines them: DER, cpWER and WER. Pure functions over values of ``careca.types``.

Errors are kept as sums (seconds, words), so that the rate of a set of recordings is its total of errors over its total
of reference, never a mean of rates in which a short recording would weigh as much as a long one.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import jiwer
from meeteval.wer import cp_word_error_rate
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate
from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

from careca.types import Turn, Utterance


@dataclass(frozen=True, slots=True)
class _Sums:
    """Numbers that add up field by field."""

    def __add__(self, other: Self) -> Self:
        return type(self)(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


@dataclass(frozen=True, slots=True)
class DiarizationErrors(_Sums):
    """Seconds of speaker time, and whether the number of speakers was found, summed over recordings.

    Two people talking at once for a second are two seconds of speech.
    """

    speech: float = 0.0
    missed: float = 0.0
    false_alarm: float = 0.0
    confusion: float = 0.0
    recordings: int = 0
    right_speaker_counts: int = 0

    def rate(self, seconds: float) -> float | None:
        """``seconds`` as a fraction of the speech; ``None`` without speech."""
        return seconds / self.speech if self.speech else None

    @property
    def der(self) -> float | None:
        """Diarization error rate; ``None`` without speech."""
        return self.rate(self.missed + self.false_alarm + self.confusion)


@dataclass(frozen=True, slots=True)
class WordErrors(_Sums):
    """Words of the reference and the edits that lead from it to the hypothesis, summed over recordings."""

    reference: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def rate(self, words: int) -> float | None:
        """``words`` as a fraction of the reference; ``None`` where nothing was said."""
        return words / self.reference if self.reference else None

    @property
    def error_rate(self) -> float | None:
        """Edits per word of the reference; ``None`` where nothing was said."""
        return self.rate(self.substitutions + self.deletions + self.insertions)


def score_turns(reference: Sequence[Turn], hypothesis: Sequence[Turn], duration: float) -> DiarizationErrors:
    """The parts of DER over the whole recording of ``duration`` seconds: no collar, overlapped speech scored.

    Speakers are matched one to one so that most time agrees (Hungarian algorithm). Silence counts too: what the
    hypothesis puts there is a false alarm.
    """
    metric = DiarizationErrorRate(collar=0.0, skip_overlap=False)
    whole = Timeline([Segment(0.0, duration)])
    parts = metric.compute_components(_annotation(reference), _annotation(hypothesis), uem=whole)
    return DiarizationErrors(
        speech=float(parts["total"]),
        missed=float(parts["missed detection"]),
        false_alarm=float(parts["false alarm"]),
        confusion=float(parts["confusion"]),
        recordings=1,
        right_speaker_counts=int(_speaker_count(reference) == _speaker_count(hypothesis)),
    )


def score_text(reference: str, hypothesis: str, language: str) -> WordErrors:
    """The parts of WER after Whisper's text normalisation for ``language``."""
    normalize = text_normalizer(language)
    alignment = jiwer.process_words(normalize(reference), normalize(hypothesis))
    return WordErrors(
        reference=alignment.hits + alignment.substitutions + alignment.deletions,
        substitutions=alignment.substitutions,
        deletions=alignment.deletions,
        insertions=alignment.insertions,
    )


def score_utterances(reference: Sequence[Utterance], hypothesis: Sequence[Utterance], language: str) -> WordErrors:
    """The parts of cpWER after Whisper's text normalisation for ``language``.

    Each speaker's utterances are joined in order of time and speakers are matched one to one so that fewest words
    differ (Watanabe et al., "CHiME-6 challenge", 2020): a word given to the wrong speaker is a deletion here and an
    insertion there. Utterances of nobody in particular count as one more speaker.
    """
    errors = cp_word_error_rate(
        _speaker_texts(reference, language),
        _speaker_texts(hypothesis, language),
        reference_sort=False,
        hypothesis_sort=False,
    )
    return WordErrors(
        reference=int(errors.length),
        substitutions=int(errors.substitutions),
        deletions=int(errors.deletions),
        insertions=int(errors.insertions),
    )


@functools.cache
def text_normalizer(language: str) -> Callable[[str], str]:
    """Whisper's normaliser for an ISO 639-1 code: English has its own, which writes out numbers and contractions."""
    normalizer: Callable[[str], str] = EnglishTextNormalizer() if language == "en" else BasicTextNormalizer()
    return normalizer


def _annotation(turns: Iterable[Turn]) -> Annotation:
    """Turns as pyannote's annotation; those of one speaker that touch or overlap are one, or they would count twice."""
    annotation = Annotation()
    for track, turn in enumerate(turns):
        annotation[Segment(turn.start, turn.end), track] = turn.speaker
    return annotation.support()


def _speaker_count(turns: Iterable[Turn]) -> int:
    return len({turn.speaker for turn in turns})


def _speaker_texts(utterances: Iterable[Utterance], language: str) -> dict[str, str]:
    normalize = text_normalizer(language)
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for utterance in sorted(utterances, key=lambda each: each.start):
        texts[utterance.speaker or ""].append(normalize(utterance.text))
    return {speaker: " ".join(parts) for speaker, parts in texts.items()}
