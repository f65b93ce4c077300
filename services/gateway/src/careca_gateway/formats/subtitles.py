"""Subtitles: SubRip and WebVTT, with cues that are short enough to read.

The sizes are those that broadcasters and streaming services require: two lines of 42 characters, seven seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import attrgetter

from careca.formatting import format_time
from careca.types import Result, Utterance, Word
from careca_gateway.formats.header import header
from careca_gateway.pipeline.words import columns, ends_sentence, gaps, spans

LINE_COLUMNS = 42
"""The maximum width of a line. Only a single longer word exceeds it."""

CUE_LINES = 2
"""The maximum number of lines in a cue."""

CUE_SECONDS = 7.0
"""The maximum duration of a cue, unless a single word takes longer."""

CUE_PAUSE_SECONDS = 1.0
"""A pause that ends a cue, so that no text is shown while nobody speaks."""

_SHORTEST_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines that are shown from ``start`` to ``end``."""

    start: float
    end: float
    speaker: str | None
    lines: tuple[str, ...]


def srt(result: Result, name: str) -> str:
    """Returns SubRip: numbered cues, with the speaker before the text."""
    blocks = [
        f"{number}\n{format_time(cue.start, ',')} --> {format_time(cue.end, ',')}\n"
        f"{_without_arrows(chr(10).join(cue.lines))}\n"
        for number, cue in enumerate(cues(result, prefixed=True), start=1)
    ]
    return "\n".join(blocks)


def vtt(result: Result, name: str) -> str:
    """Returns WebVTT: the speaker in a voice tag, notices and failed stages in notes."""
    blocks = ["WEBVTT\n"]
    blocks += [f"NOTE {_escaped(line)}\n" for line in header(result)]
    for cue in cues(result, prefixed=False):
        text = _escaped("\n".join(cue.lines))
        voice = f"<v {_escaped(cue.speaker)}>{text}</v>" if cue.speaker else text
        blocks.append(f"{format_time(cue.start, '.')} --> {format_time(cue.end, '.')}\n{voice}\n")
    return "\n".join(blocks)


def cues(result: Result, *, prefixed: bool) -> list[Cue]:
    """Returns the cues of all utterances by start. A cue ends at the latest where the next one starts.

    Only cues of different speakers on separate channels may overlap.
    """
    every = (cue for utterance in result.utterances for cue in _cues(utterance, prefixed=prefixed))
    found = sorted(every, key=attrgetter("start"))
    for index, (cue, following) in enumerate(pairwise(found)):
        may_overlap = result.channels and cue.speaker != following.speaker
        if cue.start < following.start < cue.end and not may_overlap:
            found[index] = _with_minimum_duration(replace(cue, end=following.start))
    return found


def _cues(utterance: Utterance, *, prefixed: bool) -> Iterator[Cue]:
    """Yields the cues of one utterance. With ``prefixed``, each starts with the speaker's name."""
    words = utterance.words or tuple(Word(text) for text in utterance.text.split())
    times = spans(words, utterance.start, max(utterance.end, utterance.start))
    text = _CueText(utterance.speaker if prefixed else None)
    first = 0
    for index, (word, gap) in enumerate(zip(words, gaps(utterance.text, words), strict=True)):
        if index > first and (_must_end(words, times, first, index) or not text.fits(gap, word.text)):
            yield _with_minimum_duration(Cue(times[first][0], times[index - 1][1], utterance.speaker, text.take()))
            first = index
        text.add(gap, word.text)
    if words:
        yield _with_minimum_duration(Cue(times[first][0], times[-1][1], utterance.speaker, text.take()))


def _with_minimum_duration(cue: Cue) -> Cue:
    """Returns ``cue`` with a duration of at least 1 ms, the precision of the formats: players reject empty cues."""
    return cue if cue.end - cue.start >= _SHORTEST_SECONDS else replace(cue, end=cue.start + _SHORTEST_SECONDS)


def _must_end(words: tuple[Word, ...], times: list[tuple[float, float]], first: int, index: int) -> bool:
    """Returns whether the cue that starts with word ``first`` must end before word ``index``, by its times."""
    (start, _), (_, last_end), (next_start, next_end) = times[first], times[index - 1], times[index]
    if next_end - start > CUE_SECONDS or next_start - last_end >= CUE_PAUSE_SECONDS:
        return True
    return ends_sentence(words[index - 1].text) and last_end - start >= CUE_SECONDS / 2


class _CueText:
    """The lines of one cue while words are added."""

    def __init__(self, speaker: str | None) -> None:
        self._prefix = f"{speaker}:" if speaker else ""
        self._lines = [self._prefix]

    def fits(self, gap: str, text: str) -> bool:
        """Returns whether there is room for one more word."""
        return len(self._lines) < CUE_LINES or self._fits_last_line(gap, text)

    def add(self, gap: str, text: str) -> None:
        """Appends a word, on a new line if the last line is full."""
        if not self._fits_last_line(gap, text):
            self._lines.append(text)
            return
        gap = " " if self._lines == [self._prefix] else gap
        self._lines[-1] = (self._lines[-1] + gap + text).strip()

    def take(self) -> tuple[str, ...]:
        """Returns the lines, and starts again without lines."""
        lines, self._lines = tuple(self._lines), [self._prefix]
        return lines

    def _fits_last_line(self, gap: str, text: str) -> bool:
        line = self._lines[-1]
        return not line or columns(line) + len(gap) + columns(text) <= LINE_COLUMNS


def _without_arrows(text: str) -> str:
    """Returns ``text`` without the arrow of time lines. SubRip has no escape for it."""
    return text.replace("-->", "->")


def _escaped(text: str) -> str:
    """Returns ``text`` with the special characters of WebVTT escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
