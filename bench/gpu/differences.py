"""How much two results differ. Pure functions that need numpy and scipy only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np
import numpy.typing as npt

from careca.types import Turn

FRAMES_PER_SECOND = 100


def word_difference(reference: str, other: str) -> float:
    """Words to substitute, delete and insert, over the words of ``reference``: at least the word error rate.

    Case and punctuation do not count. The alignment is difflib's, which is not always the shortest one.
    """
    ours, theirs = _words(reference), _words(other)
    changes = SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes()
    changed = sum(max(a_end - a, b_end - b) for kind, a, a_end, b, b_end in changes if kind != "equal")
    return changed / max(1, len(ours))


def speaker_difference(reference: Sequence[Turn], other: Sequence[Turn], duration: float) -> float:
    """Speaker time that differs over the speaker time of ``reference``, on frames of 10 ms.

    This is the diarization error rate of ``other`` without a collar. Speakers are matched one to one so that most time
    agrees. ``duration`` is in seconds.
    """
    from scipy.optimize import linear_sum_assignment

    ours, theirs = _activity(reference, duration), _activity(other, duration)
    agreed = ours @ theirs.T
    matched = agreed[linear_sum_assignment(agreed, maximize=True)].sum()
    speaking = ours.sum(axis=0)
    largest = np.maximum(speaking, theirs.sum(axis=0)).sum()
    return float((largest - matched) / max(1, speaking.sum()))


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def _activity(turns: Sequence[Turn], duration: float) -> npt.NDArray[np.int64]:
    """Returns 1 where a speaker speaks: shape (speakers, frames)."""
    speakers = sorted({turn.speaker for turn in turns})
    activity = np.zeros((len(speakers), round(duration * FRAMES_PER_SECOND)), dtype=np.int64)
    for turn in turns:
        start, end = round(turn.start * FRAMES_PER_SECOND), round(turn.end * FRAMES_PER_SECOND)
        activity[speakers.index(turn.speaker), start:end] = 1
    return activity
