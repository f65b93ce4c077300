"""What a live transcript is worth: delays, changes, and errors beside those of the recording. Pure."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from bench.live.playing import Playing
from careca.types import Turn, Utterance, Word

_TURN_GAP_SECONDS = 0.8
"""Words of one speaker with a shorter pause are one turn."""


@dataclass(frozen=True, slots=True)
class Delays:
    """Delays of the words of one session, in seconds after they were spoken."""

    interim: tuple[float, ...]
    """Until each word was first shown where it is in the final text."""
    final: tuple[float, ...]


def delays(playing: Playing) -> Delays:
    """Returns the delays. Words end where the recording's own transcript says, if it has them; else where they say."""
    keys = [_key(word.text) for word in playing.words]
    ends = _ends(playing)
    first: dict[int, float] = {}
    for shown in playing.shown:
        for offset, text in enumerate(shown.interim):
            index = shown.final_words + offset
            if index < len(keys) and keys[index] == _key(text):
                first.setdefault(index, shown.at)
    final = tuple(told - end for told, end in zip(playing.told, ends, strict=True))
    interim = tuple(min(first.get(index, told), told) - ends[index] for index, told in enumerate(playing.told))
    return Delays(interim, final)


def delays_of_all(sessions: Iterable[Playing]) -> Delays:
    """Returns the delays of the words of all sessions."""
    found = [delays(each) for each in sessions]
    return Delays(
        tuple(delay for each in found for delay in each.interim), tuple(delay for each in found for delay in each.final)
    )


def furthest_behind(sessions: Iterable[Playing], until: float) -> float:
    """Returns the most seconds of audio that a session was behind before ``until``."""
    return max(behind for each in sessions for at, behind in each.behind if at < until)


def changed_interim(playing: Playing) -> tuple[int, int]:
    """Returns how many of the interim words that were shown are not in the final text, and how many were shown."""
    keys = [_key(word.text) for word in playing.words]
    changed = total = 0
    for shown in playing.shown:
        words = [_key(text) for text in shown.interim]
        following = keys[shown.final_words : shown.final_words + len(words) + 5]
        matcher = SequenceMatcher(None, words, following, autojunk=False)
        same = sum(block.size for block in matcher.get_matching_blocks())
        changed += len(words) - same
        total += len(words)
    return changed, total


def turns_of(words: Iterable[Word]) -> list[Turn]:
    """Returns the turns of speakers according to their words."""
    turns: list[Turn] = []
    for word in words:
        if word.start is None or word.end is None or not word.speaker:
            continue
        last = turns[-1] if turns else None
        if last and last.speaker == word.speaker and word.start - last.end <= _TURN_GAP_SECONDS:
            turns[-1] = Turn(last.start, max(last.end, word.end), word.speaker)
        else:
            turns.append(Turn(word.start, word.end, word.speaker))
    return turns


def utterances_of(words: Iterable[Word]) -> list[Utterance]:
    """Returns one utterance for each word: scores join those of a speaker."""
    return [Utterance(word.start or 0.0, word.end or 0.0, word.text, word.speaker) for word in words]


def text_of(words: Iterable[Word]) -> str:
    """Returns the text."""
    return " ".join(word.text for word in words)


def result_words(playing: Playing) -> list[Word]:
    """Returns the words of the session's result, in order of time."""
    assert playing.result is not None
    return [word for utterance in playing.result.utterances for word in utterance.words]


def _ends(playing: Playing) -> list[float]:
    """Returns when each final word was spoken."""
    heard = result_words(playing)
    ends = [word.end or 0.0 for word in playing.words]
    one, other = ([_key(word.text) for word in words] for words in (playing.words, heard))
    for block in SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks():
        for offset in range(block.size):
            ends[block.a + offset] = heard[block.b + offset].end or ends[block.a + offset]
    return ends


def _key(text: str) -> str:
    return text.strip(string.punctuation).casefold()


def mean(values: Sequence[float]) -> float | None:
    """Returns the mean; ``None`` of nothing."""
    return sum(values) / len(values) if values else None
