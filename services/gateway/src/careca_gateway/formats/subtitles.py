"""Subtitles: SubRip and WebVTT, with cues short enough to be read.

The sizes are those that broadcasters and streaming services ask for: two lines of 42 characters, seven seconds.
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
"""Most columns of a line; only a single longer word exceeds it."""

CUE_LINES = 2
"""Most lines of a cue."""

CUE_SECONDS = 7.0
"""Longest time that a cue stands, unless a single word takes longer."""

CUE_PAUSE_SECONDS = 1.0
"""A pause that ends a cue: nothing stands while nobody speaks."""

_SHORTEST_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines that stand from ``start`` to ``end``."""

    start: float
    end: float
    speaker: str | None
    lines: tuple[str, ...]


def srt(result: Result, name: str) -> str:
    """SubRip: numbered cues, the speaker in front of the text."""
    blocks = [
        f"{number}\n{format_time(cue.start, ',')} --> {format_time(cue.end, ',')}\n"
        f"{_without_arrows(chr(10).join(cue.lines))}\n"
        for number, cue in enumerate(cues(result, prefixed=True), start=1)
    ]
    return "\n".join(blocks)


def vtt(result: Result, name: str) -> str:
    """WebVTT: the speaker in a voice tag, what failed and the notices in notes."""
    blocks = ["WEBVTT\n"]
    blocks += [f"NOTE {_escaped(line)}\n" for line in header(result)]
    for cue in cues(result, prefixed=False):
        text = _escaped("\n".join(cue.lines))
        voice = f"<v {_escaped(cue.speaker)}>{text}</v>" if cue.speaker else text
        blocks.append(f"{format_time(cue.start, '.')} --> {format_time(cue.end, '.')}\n{voice}\n")
    return "\n".join(blocks)


def cues(result: Result, *, prefixed: bool) -> list[Cue]:
    """The cues of all utterances by start. One that would reach into the next ends where that one starts.

    Only those of people on channels of their own stand together where they talk at once.
    """
    every = (cue for utterance in result.utterances for cue in _cues(utterance, prefixed=prefixed))
    found = sorted(every, key=attrgetter("start"))
    for index, (cue, following) in enumerate(pairwise(found)):
        together = result.channels and cue.speaker != following.speaker
        if cue.start < following.start < cue.end and not together:
            found[index] = _standing(replace(cue, end=following.start))
    return found


def _cues(utterance: Utterance, *, prefixed: bool) -> Iterator[Cue]:
    """The cues of one utterance; with ``prefixed`` each starts with the name of the speaker."""
    words = utterance.words or tuple(Word(text) for text in utterance.text.split())
    times = spans(words, utterance.start, max(utterance.end, utterance.start))
    page = _Page(utterance.speaker if prefixed else None)
    first = 0
    for index, (word, gap) in enumerate(zip(words, gaps(utterance.text, words), strict=True)):
        if index > first and (_breaks(words, times, first, index) or not page.fits(gap, word.text)):
            yield _standing(Cue(times[first][0], times[index - 1][1], utterance.speaker, page.turn()))
            first = index
        page.add(gap, word.text)
    if words:
        yield _standing(Cue(times[first][0], times[-1][1], utterance.speaker, page.turn()))


def _standing(cue: Cue) -> Cue:
    """``cue``, standing for at least the millisecond that the forms can say: empty cues are refused by players."""
    return cue if cue.end - cue.start >= _SHORTEST_SECONDS else replace(cue, end=cue.start + _SHORTEST_SECONDS)


def _breaks(words: tuple[Word, ...], times: list[tuple[float, float]], first: int, index: int) -> bool:
    """Whether the cue that starts with word ``first`` must end before word ``index``, by its times."""
    (start, _), (_, last_end), (next_start, next_end) = times[first], times[index - 1], times[index]
    if next_end - start > CUE_SECONDS or next_start - last_end >= CUE_PAUSE_SECONDS:
        return True
    return ends_sentence(words[index - 1].text) and last_end - start >= CUE_SECONDS / 2


class _Page:
    """The lines of one cue as they fill up with words."""

    def __init__(self, speaker: str | None) -> None:
        self._prefix = f"{speaker}:" if speaker else ""
        self._lines = [self._prefix]

    def fits(self, gap: str, text: str) -> bool:
        """Whether one more word finds room."""
        return len(self._lines) < CUE_LINES or self._fits_last_line(gap, text)

    def add(self, gap: str, text: str) -> None:
        """Appends a word, on a new line where the last is full."""
        if not self._fits_last_line(gap, text):
            self._lines.append(text)
            return
        gap = " " if self._lines == [self._prefix] else gap
        self._lines[-1] = (self._lines[-1] + gap + text).strip()

    def turn(self) -> tuple[str, ...]:
        """The lines, and an empty page from here on."""
        lines, self._lines = tuple(self._lines), [self._prefix]
        return lines

    def _fits_last_line(self, gap: str, text: str) -> bool:
        line = self._lines[-1]
        return not line or columns(line) + len(gap) + columns(text) <= LINE_COLUMNS


def _without_arrows(text: str) -> str:
    """``text`` without what marks the line of a cue's times; SubRip knows no way to write it."""
    return text.replace("-->", "->")


def _escaped(text: str) -> str:
    """``text`` without the characters that mean something in a WebVTT cue."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
