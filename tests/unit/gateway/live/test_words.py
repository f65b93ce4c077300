"""Final and interim words from readings of a window that grows and slides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careca.inference.audio import Audio
from careca.inference.engine import complete
from careca.types import SAMPLE_RATE, ReadWindow, TranscriptionOptions, WindowToRead, Word
from careca_gateway.live.words import WordsChange, WordStream
from support.live import Said, SpokenTranscriber, spoken, spoken_words, word, words

PAUSE = 0.8


@dataclass
class Reader:
    """Reads audio as a session does: up to times that are given."""

    said: Sequence[Said | float]
    pause: float = PAUSE
    options: TranscriptionOptions = field(default_factory=TranscriptionOptions)

    def __post_init__(self) -> None:
        self.samples = np.frombuffer(spoken(self.said), "<i2")
        self.seconds = len(self.samples) / SAMPLE_RATE
        self.stream = WordStream(self.options, pause=self.pause)
        self.engine = SpokenTranscriber()
        self.engine.load()
        self.changes: list[WordsChange] = []
        self.windows: list[tuple[float, WindowToRead]] = []
        self.ends: list[int] = []
        """After how many final words an utterance ended."""

    def read(self, now: float, *, last: bool = False) -> WordsChange:
        last = last or self.stream.must_end(now)
        window = self.stream.window(last=last)
        audio = self.samples[round(self.stream.start * SAMPLE_RATE) : round(now * SAMPLE_RATE)]
        self.windows.append((len(audio) / SAMPLE_RATE, window))
        found = complete(self.engine.infer(Audio(audio), window)) if len(audio) else ReadWindow()
        change = self.stream.add(found, now, last=last)
        self.ends += [len(self.final) + index for index in change.pauses]
        self.changes.append(change)
        if change.utterance_ended:
            self.ends.append(len(self.final))
        return change

    def read_all(self, step: float = 0.5) -> None:
        """Reads to the end: in steps, which are shorter in a long window."""
        self.read_on(step for _ in iter(int, 1))

    def read_on(self, steps: Iterable[float]) -> None:
        """Reads to the end in ``steps``, which are shorter in a long window."""
        now = 0.0
        for step in steps:
            now = min(now + step, max(now + 0.5, self.stream.start + 13.0))
            if now >= self.seconds:
                break
            self.read(now)
        self.read(self.seconds, last=True)

    @property
    def final(self) -> list[Word]:
        return [each for change in self.changes for each in change.final]

    def check(self) -> None:
        expected = spoken_words(self.said)
        assert [each.text for each in self.final] == [each.text for each in expected]
        for told, each in zip(self.final, expected, strict=True):
            assert told.start == pytest.approx(each.start, abs=1e-6)
            assert told.end == pytest.approx(each.end, abs=1e-6)
        for number, change in enumerate(self.changes):
            for later in self.changes[number + 1 :]:
                assert all((each.start or 0.0) > change.interim_start - 1e-6 for each in later.final)


@st.composite
def talks(draw: st.DrawFn) -> list[Said | float]:
    """Words of 0.15 to 1 s, some of them with a pause before."""
    said: list[Said | float] = []
    for number in range(1, draw(st.integers(1, 30)) + 1):
        if draw(st.integers(0, 4)) == 0:
            said.append(draw(st.integers(1, 60)) / 20)
        said.append(word(number // 7 % 3, number, draw(st.integers(3, 16)) / 20))
    return said


@settings(max_examples=60)
@given(talks(), st.sampled_from([0.25, 0.5, 0.7, 1.3, 5.0]))
def test_each_word_is_final_once_with_its_times(said: list[Said | float], step: float) -> None:
    reader = Reader(said)

    reader.read_all(step)

    reader.check()
    assert all(seconds <= 14.5 for seconds, _ in reader.windows)


@settings(max_examples=60)
@given(talks(), st.data())
def test_steps_may_differ(said: list[Said | float], data: st.DataObject) -> None:
    reader = Reader(said)

    reader.read_on(data.draw(st.integers(2, 100)) / 20 for _ in range(10_000))

    reader.check()


@settings(max_examples=60)
@given(talks())
def test_final_words_are_those_of_interim_ones_and_no_word_is_both(said: list[Said | float]) -> None:
    reader = Reader(said)
    reader.read_all(0.5)

    told = 0
    for change in reader.changes:
        told += len(change.final)
        upcoming = [each.text for each in spoken_words(said)][told:]
        interim = [each.text for each in change.interim]
        sure = interim[:-1]  # the last one may be cut
        assert sure == upcoming[: len(sure)]
    assert reader.changes[-1].interim == ()


def test_a_window_is_short_while_somebody_speaks_without_a_pause() -> None:
    reader = Reader(words(0, 1, 300, 0.31))

    reader.read_all()

    reader.check()
    lengths = [seconds for seconds, _ in reader.windows]
    assert max(lengths) < 10
    assert sorted(lengths)[len(lengths) // 2] > 2.5
    assert reader.ends == [300]


def test_final_words_stay_in_a_window_that_slides() -> None:
    reader = Reader(words(0, 1, 100, 0.31))

    reader.read_all()

    late = [window for _, window in reader.windows[25:-1]]
    assert all(window.final_words for window in late)
    texts = [each.text for each in spoken_words(reader.said)]
    for window in late:
        first = texts.index(window.final_words[0])
        context = (*window.final_words, *window.previous_words[:-1])
        assert list(context) == texts[first : first + len(context)]


def test_silence_is_not_read_again() -> None:
    reader = Reader([30.0, *words(0, 1, 3), 30.0])

    reader.read_all()

    reader.check()
    assert max(seconds for seconds, _ in reader.windows) < 5
    assert reader.ends == [3]


@pytest.mark.parametrize("pause", [0.2, 0.8, 2.0])
def test_an_utterance_ends_with_a_pause(pause: float) -> None:
    """A pause that is longer by two readings: one must fall into it, and a second one agree."""
    said: list[Said | float] = [*words(0, 1, 4), pause + 1.1, *words(0, 11, 4), pause / 2, *words(0, 21, 4), 5.0]
    reader = Reader(said, pause=pause)

    reader.read_all()

    reader.check()
    assert reader.ends == [4, 12]


@pytest.mark.parametrize("offset", [0.0, 0.1, 0.2, 0.3, 0.4])
def test_an_utterance_ends_with_every_pause_that_is_long_enough(offset: float) -> None:
    """Wherever the readings fall."""
    said: list[Said | float] = [offset, *words(0, 1, 4), PAUSE + 0.1, *words(0, 11, 4), 2.0]
    reader = Reader(said)

    reader.read_all()

    assert reader.ends == [4, 8]


def test_an_utterance_ends_with_the_audio_and_only_once() -> None:
    reader = Reader(words(0, 1, 3))
    reader.read_all()
    assert reader.ends == [3]

    reader = Reader([*words(0, 1, 3), 3.0])
    reader.read_all()
    assert reader.ends == [3]

    reader = Reader([5.0])
    reader.read_all()
    assert reader.ends == []


def test_words_before_a_flush_are_final_and_those_after_it_are_whole() -> None:
    said = words(0, 1, 10)
    reader = Reader(said)
    reader.read(1.0)
    reader.read(2.0, last=True)
    assert [each.text for each in reader.final] == [each.text for each in spoken_words(said)][:5]

    reader.read(3.1)
    reader.read(reader.seconds, last=True)
    reader.check()
    assert reader.ends == [5, 10]


def test_a_window_without_agreement_is_read_a_last_time() -> None:
    stream = WordStream(TranscriptionOptions(), pause=PAUSE)
    finals: list[Word] = []
    for number in range(1, 60):
        now = number / 2
        last = stream.must_end(now)
        length = now - stream.start
        heard = (Word(f"heard{number}", 0.0, length),)
        change = stream.add(ReadWindow(heard, int(last), "en", 0.0, length), now, last=last)
        finals += change.final
        assert length <= 14.5

    assert [each.text for each in finals] == ["heard28", "heard56"]


def test_times_never_go_back() -> None:
    stream = WordStream(TranscriptionOptions(), pause=PAUSE)
    heard = (Word("a", 0.0, 2.0), Word("b", 1.0, 1.5), Word("c", 1.2, 2.6))

    final = stream.add(ReadWindow(heard, 3, "en", 0.0, 2.6), 2.6, last=True).final

    assert [(each.start, each.end) for each in final] == [(0.0, 2.0), (2.0, 2.0), (2.0, 2.6)]


def test_the_language_is_asked_for_until_the_utterance_ends_and_likely_after_it() -> None:
    stream = WordStream(TranscriptionOptions(), pause=PAUSE)
    assert (stream.window(last=False).options.language, stream.window(last=False).likely_language) == (None, "")

    stream.add(ReadWindow((Word("hallo", 0.0, 0.5),), 1, "nl", 0.0, 0.5), 0.7, last=False)
    assert stream.window(last=False).options.language == "nl"

    change = stream.add(ReadWindow((), 0, "nl", 0.0, 0.5), 2.0, last=False)
    assert (change.utterance_ended, change.language) == (True, "nl")
    window = stream.window(last=False)
    assert (window.options.language, window.likely_language) == (None, "nl")


def test_options_go_into_every_window() -> None:
    options = TranscriptionOptions(language="de", hotwords=("Careca",), beam_size=1)
    stream = WordStream(options, pause=PAUSE)
    stream.add(ReadWindow((Word("hello", 0.0, 0.5),), 1, "en", 0.0, 0.5), 0.7, last=False)

    window = stream.window(last=True)

    assert window == replace(window, options=options, last=True, final_words=("hello",), previous_words=())


def test_a_stream_may_begin_anywhere() -> None:
    stream = WordStream(TranscriptionOptions(), pause=PAUSE, start=61.5)

    final = stream.add(ReadWindow((Word("on", 0.25, 0.5),), 1, "en", 0.25, 0.5), 62.5, last=True).final

    assert [(each.start, each.end) for each in final] == [(61.75, 62.0)]


def test_no_word_is_expected_in_what_has_been_heard() -> None:
    """Words of another channel need not wait for one on which nobody speaks, or where the model hears no word."""
    stream = WordStream(TranscriptionOptions(), pause=PAUSE)
    for number in range(1, 20):
        now = number / 2
        assert stream.add(ReadWindow(), now, last=False).interim_start >= now - 1.0
    noise = WordStream(TranscriptionOptions(), pause=PAUSE)
    for number in range(1, 20):
        now = number / 2
        assert noise.add(ReadWindow(speech_start=0.0, speech_end=now), now, last=False).interim_start >= now - 1.0


def test_words_that_are_not_final_begin_after_the_final_ones() -> None:
    reader = Reader([1.0, *words(0, 1, 5)])
    first = reader.read(1.5)
    assert (len(first.interim), first.interim_start) == (2, 1.0)

    assert not reader.read(2.0).final
    third = reader.read(2.5)
    assert third.final
    assert third.interim_start == third.final[-1].end
