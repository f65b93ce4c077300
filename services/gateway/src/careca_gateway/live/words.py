"""Final and interim words of a session or a channel, from successive readings of a window that grows and slides. Pure.

A window begins at a pause, or with words that are final already, and ends with the newest audio. After an utterance it
begins anew. During a long utterance its oldest words leave it, at the border between two of them. All times are seconds
from the start of the session.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from careca.types import ReadWindow, TranscriptionOptions, WindowToRead, Word

_KEPT_SILENCE_SECONDS = 1.0
"""Audio before the next speech: the detector needs some of it, and may notice a soft beginning late."""

_LONG_WINDOW_SECONDS = 8.0
"""A longer window loses its oldest words: the time of the model grows with its length."""

_CONTEXT_SECONDS = 2.5
"""Final words that stay in a long window, because the model hears the next words better after them."""

_LONGEST_WINDOW_SECONDS = 14.0
"""A window without agreement for so long is read a last time: the model does not hear words in it that it keeps."""


_UNREAD_SECONDS = 1.5
"""Speech without words after the final ones. The model has taken them for all that is said, and reads it alone then."""


@dataclass(frozen=True, slots=True)
class WordsChange:
    """What a reading changed."""

    final: tuple[Word, ...] = ()
    """New final words."""
    pauses: tuple[int, ...] = ()
    """The indices of those of them before which an utterance ended."""
    interim: tuple[Word, ...] = ()
    """All words after the final ones."""
    interim_start: float = 0.0
    """Where they begin, or may begin: there will be no other final word before, unless the model hears one late."""
    utterance_ended: bool = False
    """Whether an utterance ended after the last final word."""
    language: str = ""
    """The language of these words; empty if unknown."""


class WordStream:
    """The words of one session, or of one of its channels.

    Args:
        options: the options of the transcriber.
        pause: seconds of silence that end an utterance.
        start: where the audio begins that has no final words yet.
        in_utterance: whether an utterance goes on there.
    """

    def __init__(
        self, options: TranscriptionOptions, *, pause: float, start: float = 0.0, in_utterance: bool = False
    ) -> None:
        self._options = options
        self._pause = pause
        self._start = start
        self._final: list[Word] = []
        """The final words in the window."""
        self._previous: tuple[Word, ...] = ()
        """What the last reading found after them."""
        self._earlier: tuple[Word, ...] = ()
        """What the reading before that one found after them."""
        self._likely_language = ""
        self._language = ""
        """The language of this utterance, once it is known."""
        self._end = start
        """The end of the last final word of the session."""
        self._in_utterance = in_utterance

    @property
    def start(self) -> float:
        """The start of the next window. The audio before it is not needed any more."""
        return self._start

    def must_end(self, now: float) -> bool:
        """Returns whether a window up to ``now`` must be the last one of its audio."""
        return now - self._start >= _LONGEST_WINDOW_SECONDS

    def window(self, *, last: bool) -> WindowToRead:
        """Returns how to read the window from ``start`` on; with ``last``, its words are final then."""
        options = replace(self._options, language=self._options.language or self._language or None)
        return WindowToRead(
            options=options,
            final_words=tuple(word.text for word in self._final),
            previous_words=tuple(word.text for word in self._previous),
            earlier_words=tuple(word.text for word in self._earlier),
            last=last,
            likely_language=self._likely_language,
        )

    def add(self, read: ReadWindow, now: float, *, last: bool) -> WordsChange:
        """Takes the reading of the window up to ``now``."""
        if read.language:
            self._likely_language = self._language = read.language
        speech_start = self._start + (read.speech_start or 0.0)
        final: list[Word] = []
        pauses: list[int] = []
        for index, word in enumerate(read.words[: read.agreed_count]):
            ended_at = self._end
            final.append(self._placed(word))
            if self._in_utterance and (final[-1].start or 0.0) - ended_at >= self._pause:
                pauses.append(index)
            self._in_utterance = True
        self._final += final
        self._earlier = self._previous[read.agreed_count :]
        self._previous = read.words[read.agreed_count :]
        spoken_until = self._start if read.speech_end is None else self._start + read.speech_end
        silent = now - spoken_until >= self._pause
        ended = last or (not self._previous and silent) or read.speech_end is None
        utterance_ended = self._in_utterance and (last or silent) and not self._previous
        language = self._language
        unread = not final and not self._previous and self._final and spoken_until - self._end > _UNREAD_SECONDS
        if unread:
            self._begin(self._end)
        elif ended:
            self._begin(now if last else max(self._start, min(spoken_until, now), now - _KEPT_SILENCE_SECONDS))
        elif now - self._start >= _LONG_WINDOW_SECONDS:
            self._slide()
        heard_from = speech_start if self._previous or unread else max(self._start, now - _KEPT_SILENCE_SECONDS)
        if utterance_ended:
            self._in_utterance = False
            self._language = ""
        return WordsChange(
            final=tuple(final),
            pauses=tuple(pauses),
            interim=self._previous,
            interim_start=max(self._end, heard_from),
            utterance_ended=utterance_ended,
            language=language,
        )

    def _placed(self, word: Word) -> Word:
        """Returns a word of the window with times of the session, which never go back."""
        start = max(self._end, self._start + (word.start or 0.0))
        self._end = max(start, self._start + (word.end or 0.0))
        return replace(word, start=start, end=self._end)

    def _begin(self, start: float) -> None:
        self._start = start
        self._final = []
        self._previous = self._earlier = ()

    def _slide(self) -> None:
        """Drops the oldest final words from the window, with their audio."""
        ends = [word.end or 0.0 for word in self._final]
        count = sum(end <= self._end - _CONTEXT_SECONDS for end in ends)
        if count:
            following = self._final[count].start or 0.0
            self._start = (ends[count - 1] + following) / 2
            self._final = self._final[count:]
