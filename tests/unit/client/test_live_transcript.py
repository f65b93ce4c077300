"""What the command line shows of a live transcript, and how fast it sends a file."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from careca.types import Word
from careca_client.cli import audio_sources
from careca_client.cli.audio_sources import paced
from careca_client.cli.output.live_transcript import LiveTranscript
from careca_client.live import LiveEvent, LiveFinal, LiveInterim, SpeakerCorrection, UtteranceEnd
from support.waiting import Clock

POSITION: dict[str, Any] = {"event_number": 1, "audio_seconds": 0.0, "behind_seconds": 0.0}
ERASE = "\r\x1b[2K"


def words(texts: str, speaker: str | None) -> tuple[Word, ...]:
    return tuple(Word(text, float(number), number + 0.5, speaker=speaker) for number, text in enumerate(texts.split()))


def final(texts: str, speaker: str | None = "Ana", first: int = 0, language: str = "en") -> LiveFinal:
    return LiveFinal(words=words(texts, speaker), first_word=first, language=language, **POSITION)


def guess(texts: str, language: str = "en") -> LiveInterim:
    return LiveInterim(words=tuple(map(Word, texts.split())), language=language, **POSITION)


END = UtteranceEnd(**POSITION)


def shown(*events: LiveEvent, terminal: bool = False, width: int = 200) -> str:
    file = io.StringIO()
    console = Console(
        file=file,
        force_terminal=terminal,
        width=width,
        highlight=False,
        markup=False,
        color_system="standard" if terminal else None,
    )
    transcript = LiveTranscript(console)
    for event in events:
        transcript.show(event)
    transcript.end()
    return file.getvalue()


def test_a_line_is_an_utterance() -> None:
    assert shown(final("Hello"), final("there.", first=1), END, END, final("Bye.", first=2), END).splitlines() == [
        "[00:00:00.000 - 00:00:00.500] Ana: Hello there.",
        "[00:00:00.000 - 00:00:00.500] Ana: Bye.",
    ]


def test_a_line_ends_where_the_speaker_changes() -> None:
    lines = shown(final("one two"), final("three", "Bob", 2), final("four", None, 3)).splitlines()

    assert [line.partition("] ")[2] for line in lines] == ["Ana: one two", "Bob: three", "UNKNOWN: four"]


def test_a_line_has_the_speakers_that_are_known_when_it_ends() -> None:
    correction = SpeakerCorrection(first_word=1, word_count=2, speaker="Bob", **POSITION)

    lines = shown(final("one two"), final("three four", first=2), correction, END).splitlines()

    assert [line.partition("] ")[2] for line in lines] == ["Ana: one", "Bob: two three", "Ana: four"]


def test_languages_without_spaces_have_none() -> None:
    assert shown(final("今日 は", language="ja")).endswith("Ana: 今日は\n")


def test_elsewhere_than_in_a_terminal_no_guesses_are_shown() -> None:
    assert shown(guess("perhaps"), final("surely"), guess("maybe"), END) == (
        "[00:00:00.000 - 00:00:00.500] Ana: surely\n"
    )


def test_in_a_terminal_guesses_are_dim_and_replaced() -> None:
    text = shown(guess("perhaps"), guess("perhaps not"), final("surely"), guess("maybe"), END, terminal=True)

    assert f"{ERASE}\x1b[2mperhaps\x1b[0m{ERASE}" in text
    assert f"{ERASE}\x1b[2mperhaps not\x1b[0m{ERASE}" in text
    assert "\x1b[36mAna: \x1b[0msurely \x1b[2mmaybe\x1b[0m" in text
    assert "perhaps" not in text.partition("surely")[2]
    last = text.rpartition(f"{ERASE}")[0].rpartition(ERASE)[2]
    assert last.endswith("\x1b[36mAna: \x1b[0msurely\n")


def test_speakers_have_different_colours() -> None:
    text = shown(final("one"), final("two", "Bob", 1), final("three", "Ana", 2), terminal=True)

    assert "\x1b[36mAna: " in text
    assert "\x1b[35mBob: " in text
    assert "\x1b[35mAna: " not in text


@pytest.mark.parametrize("text", ["0123456789 " * 9, "今日 " * 30])
def test_a_line_that_is_too_long_to_be_rewritten_shows_its_end(text: str) -> None:
    rewritten = shown(guess(text, "ja"), terminal=True, width=40).split(ERASE)[1]

    end = rewritten.removeprefix("\x1b[2m").removesuffix("\x1b[0m")
    assert "".join(text.split()).endswith(end.replace(" ", ""))
    assert 37 <= sum(1 if character.isascii() else 2 for character in end) <= 39


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    text = shown(final("a\x1b]0;mine\x07", "B\x1bb"), guess("\x1bc"), END, terminal=True)

    assert "a\\x1b]0;mine\\x07" in text
    assert "B\\x1bb" in text
    assert "\x1bc" not in text


def test_nothing_is_shown_without_a_console() -> None:
    transcript = LiveTranscript(None)
    for event in (guess("a"), final("a"), END):
        transcript.show(event)
    with transcript.paused():
        pass

    assert not transcript.shows_interim


class Moving(threading.Event):
    """Takes no time: it moves the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(round(timeout, 3))
        self._clock.seconds += timeout
        return self.is_set()


def test_a_file_is_sent_as_fast_as_people_talk(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(audio_sources, "time", clock)
    stopped, sent = Moving(clock), []

    for chunk in paced(iter([bytes(100), bytes(100), bytes(50), bytes(100)]), 100, stopped):
        sent.append(len(chunk))
        clock.seconds += 1.75 if len(sent) == 2 else 0.25  # sending takes some time, and once too much

    assert sent == [100, 100, 50, 100]
    assert stopped.waits == [0.75, 0.0, 0.0, 0.25]


def test_a_file_that_is_stopped_sends_nothing_more() -> None:
    stopped = threading.Event()
    stopped.set()

    assert list(paced(iter([b"ab", b"cd"]), 1, stopped)) == [b"ab"]


def said(texts: str, channel: int, first: int = 0) -> LiveFinal:
    speaker = f"SPEAKER_0{channel - 1}"
    return LiveFinal(words=words(texts, speaker), first_word=first, language="en", channel=channel, **POSITION)


def test_the_end_of_an_utterance_on_another_channel_does_not_end_the_line() -> None:
    ends = [UtteranceEnd(channel=channel, **POSITION) for channel in (1, 2)]

    lines = shown(said("Yes.", 2), said("one two", 1, 1), ends[1], said("three", 1, 3), ends[0], said("four", 1, 4))

    assert [line.partition("] ")[2] for line in lines.splitlines()] == [
        "SPEAKER_01: Yes.",
        "SPEAKER_00: one two three",
        "SPEAKER_00: four",
    ]


def test_guesses_of_other_speakers_have_their_names() -> None:
    interim = LiveInterim(
        words=(Word("three", speaker="SPEAKER_00"), Word("Yes", speaker="SPEAKER_01")), language="en", **POSITION
    )

    text = Text.from_ansi(shown(said("one two", 1), interim, terminal=True).split(ERASE)[-2]).plain

    assert text.endswith("SPEAKER_00: one two three SPEAKER_01: Yes")
