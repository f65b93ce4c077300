"""Shows a live transcript: in a terminal with the words that may still change, elsewhere only finished lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from careca import languages
from careca.formatting import printable
from careca.types import Word
from careca_client.cli.output.results import SPEAKER_STYLES, times_text
from careca_client.live import LiveEvent, LiveFinal, LiveInterim, SpeakerCorrection, UtteranceEnd

_ERASE_LINE = Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2))


class LiveTranscript:
    """Shows the events of a session on ``console``. ``None`` shows nothing.

    A line ends with the utterance or where the speaker changes. In a terminal the line that has not ended is rewritten.
    """

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self.shows_interim = console is not None and console.is_terminal
        """Whether words are shown that may still change."""
        self._line: list[Word] = []
        self._line_from = 0
        self._language = ""
        self._channel: int | None = None
        """The channel of the line."""
        self._guess: tuple[Word, ...] = ()
        self._guess_language = ""
        self._styles: dict[str, str] = {}

    def show(self, event: LiveEvent) -> None:
        """Shows the event, if it changes the transcript."""
        match event:
            case LiveInterim():
                self._guess, self._guess_language = event.words, event.language
            case LiveFinal():
                self._guess = ()
                self._language, self._channel = event.language, event.channel
                for number, word in enumerate(event.words, event.first_word):
                    self._add(word, number)
            case SpeakerCorrection():
                self._correct(event)
            case UtteranceEnd():
                self._guess = ()
                if event.channel == self._channel:  # otherwise the line is another speaker's, who may go on
                    self._end_line()
            case _:
                return
        self._rewrite()

    def end(self) -> None:
        """Prints what has not been printed yet."""
        self._guess = ()
        self._end_line()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Clears the last line while messages are printed, maybe to the same terminal."""
        self._erase()
        yield
        self._rewrite()

    def _add(self, word: Word, number: int) -> None:
        if self._line and self._line[-1].speaker != word.speaker:
            self._end_line()
        if not self._line:
            self._line_from = number
        self._line.append(word)

    def _correct(self, correction: SpeakerCorrection) -> None:
        """Changes the words that were not printed yet: the result at the end has the others."""
        words, first, self._line = self._line, self._line_from, []
        corrected = range(correction.first_word, correction.first_word + correction.word_count)
        for number, word in enumerate(words, first):
            self._add(replace(word, speaker=correction.speaker) if number in corrected else word, number)

    def _end_line(self) -> None:
        if self._line and self._console is not None:
            self._erase()
            self._console.print(self._text(), soft_wrap=True)
            self._console.file.flush()
        self._line = []

    def _text(self) -> Text:
        speaker = self._line[0].speaker or ""
        style = self._styles.setdefault(speaker, SPEAKER_STYLES[len(self._styles) % len(SPEAKER_STYLES)])
        starts = [word.start for word in self._line if word.start is not None]
        ends = [word.end for word in self._line if word.end is not None]
        return Text.assemble(
            times_text(starts[0], ends[-1]) if starts and ends else "",
            (f"{printable(speaker) or 'UNKNOWN'}: ", style if speaker else ""),
            _joined(self._line, self._language),
        )

    def _rewrite(self) -> None:
        """Writes the line that has not ended: its last part, as much as fits."""
        if self._console is None or not self.shows_interim:
            return
        self._erase()
        text = self._text() if self._line else Text()
        speaker = self._line[-1].speaker if self._line else None
        for other, words in groupby(self._guess, key=lambda word: word.speaker):
            name = f"{printable(other)}: " if other and other != speaker else ""
            text = Text.assemble(text, " " if text else "", (name + _joined(words, self._guess_language), "dim"))
            speaker = other
        self._console.print(_tail(text, self._console.width - 1), end="", soft_wrap=True)
        self._console.file.flush()

    def _erase(self) -> None:
        if self._console is not None and self.shows_interim:
            self._console.control(_ERASE_LINE)


def _joined(words: Iterable[Word], language: str) -> str:
    texts = [printable(word.text.strip()) for word in words]
    return ("" if languages.is_unspaced("".join(texts), language) else " ").join(texts)


def _tail(text: Text, width: int) -> Text:
    """Returns the end of the text that has at most ``width`` columns."""
    begin = max(0, len(text) - width)
    while text[begin:].cell_len > width:  # characters of Chinese, for example, have two columns
        begin += 1
    return text[begin:]
