"""Windows of live audio, read by real Whisper models as a session reads them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import pytest

from bench.common.scoring import score_text, text_normalizer
from careca import codec
from careca.errors import InvalidRequest
from careca.inference.audio import Audio
from careca.inference.engine import Batch, complete
from careca.inference.scheduler import Ended, Scheduler, Step
from careca.types import (
    SAMPLE_RATE,
    ReadWindow,
    Scheduling,
    SchedulingClass,
    TranscriptionOptions,
    WindowToRead,
    Word,
)
from careca.v1 import audio_pb2, transcriber_pb2
from careca_gateway.live.words import WordStream

ENGLISH = TranscriptionOptions(language="en", beam_size=1)
UNKNOWN = TranscriptionOptions(beam_size=1)
STEP = 1.0


def part(audio: Audio, start: float, end: float) -> Audio:
    return Audio(audio.samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)])


def silence(seconds: float) -> Audio:
    return Audio(np.zeros(round(seconds * SAMPLE_RATE), np.int16))


def read(engine: Any, audio: Audio, window: WindowToRead | None = None) -> ReadWindow:
    found = complete(engine.infer(audio, window or WindowToRead(ENGLISH)))
    assert isinstance(found, ReadWindow)
    check(found, audio)
    return found


def check(found: ReadWindow, audio: Audio) -> None:
    """What holds for every reading."""
    assert 0 <= found.agreed_count <= len(found.words)
    for number, word in enumerate(found.words):
        assert word.text == word.text.strip() != ""
        assert (word.start is None) == (word.end is None) == (number >= found.agreed_count)
    edges = [edge for word in found.words[: found.agreed_count] for edge in (word.start, word.end)]
    assert all(edge is not None and 0 <= edge <= audio.duration for edge in edges)
    assert edges == sorted(edges)  # type: ignore[type-var]
    if found.speech_start is None or found.speech_end is None:
        assert found == ReadWindow()
    else:
        assert 0 <= found.speech_start < found.speech_end <= audio.duration


@dataclass
class Session:
    """All that a session reads of a recording."""

    words: list[Word] = field(default_factory=list)
    interim_steps: int = 0
    languages: list[str] = field(default_factory=list)
    utterances: int = 0
    windows: list[WindowToRead] = field(default_factory=list)


def session_of(engine: Any, audio: Audio, options: TranscriptionOptions = ENGLISH, *, step: float = STEP) -> Session:
    stream, session, now = WordStream(options, pause=0.8), Session(), 0.0
    while now < audio.duration:
        now = min(now + step, audio.duration)
        last = now == audio.duration or stream.must_end(now)
        window = stream.window(last=last)
        change = stream.add(read(engine, part(audio, stream.start, now), window), now, last=last)
        session.windows.append(window)
        session.words += change.final
        session.languages += [change.language] * len(change.final)
        session.utterances += change.utterance_ended
        session.interim_steps += bool(change.interim)
    return session


@pytest.fixture(scope="session", params=["tiny", "base"])
def engine(request: pytest.FixtureRequest) -> Any:
    engine = request.getfixturevalue(request.param)
    engine.load()
    return engine


@pytest.fixture(scope="session")
def heard(call: Audio) -> Callable[[Any], Session]:
    """What a session reads of the call, once for each engine."""
    return cache(lambda engine: session_of(engine, call))


def text_of(words: Sequence[Word]) -> list[str]:
    """The words as they are compared."""
    return text_normalizer("en")(" ".join(word.text for word in words)).split()


def test_a_session_reads_what_a_transcript_has(engine: Any, call: Audio, heard: Any) -> None:
    transcript = complete(engine.infer(call, replace(ENGLISH, beam_size=5)))
    expected = " ".join(segment.text for segment in transcript.segments)
    found = " ".join(word.text for word in heard(engine).words)

    assert (score_text(expected, found, "en").error_rate or 0.0) < 0.25, (found, expected)
    for name in ("Jersey", "Texas", "Chicago"):
        assert name in found


def test_words_of_a_session_are_in_order_and_at_their_times(engine: Any, call: Audio, heard: Any) -> None:
    words = heard(engine).words

    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert edges[-1] <= call.duration + 1e-6
    starts = {word.text.strip(".,?!").lower(): word.start for word in words}
    assert starts["texas"] == pytest.approx(15.5, abs=1.0)
    assert starts["chicago"] == pytest.approx(19.0, abs=2.0)


def test_final_words_are_not_read_again(engine: Any, heard: Any) -> None:
    """A window that repeats its final words would give them twice in a row.

    One word may be there more often: people say "Hello" several times in this call.
    """
    texts = [word.text.strip(".,?!").lower() for word in heard(engine).words]

    repeated = [
        texts[first : first + length]
        for length in (2, 3, 4, 5)
        for first in range(len(texts) - 2 * length + 1)
        if texts[first : first + length] == texts[first + length : first + 2 * length]
        and len(set(texts[first : first + length])) > 1
    ]
    assert repeated == []
    assert sum(bool(window.final_words) for window in heard(engine).windows) > 8


def test_words_are_interim_before_they_are_final(engine: Any, heard: Any) -> None:
    session = heard(engine)

    assert session.interim_steps > 10
    assert session.utterances >= 1
    assert set(session.languages) == {"en"}


def test_a_reading_continues_after_final_words(engine: Any, call: Audio) -> None:
    audio = part(call, 6.6, 14.0)
    whole = read(engine, audio, WindowToRead(ENGLISH, last=True))
    final = tuple(word.text for word in whole.words[: len(whole.words) // 2])

    rest = read(engine, audio, WindowToRead(ENGLISH, final_words=final, last=True))

    assert text_of(rest.words) == text_of(whole.words[len(final) :])
    for one, other in zip(rest.words, whole.words[len(final) :], strict=True):
        assert one.start == pytest.approx(other.start, abs=0.5)


def test_all_words_are_final_already(engine: Any, call: Audio) -> None:
    audio = part(call, 6.6, 14.0)
    final = tuple(word.text for word in read(engine, audio, WindowToRead(ENGLISH, last=True)).words)

    for last in (False, True):
        again = read(engine, audio, WindowToRead(ENGLISH, final_words=final, last=last))
        assert len(again.words) <= 1, again.words


def test_words_are_final_while_somebody_speaks_once_three_readings_agree(engine: Any, call: Audio) -> None:
    first = tuple(word.text for word in read(engine, part(call, 6.6, 13.5)).words)

    second = read(engine, part(call, 6.6, 14.0), WindowToRead(ENGLISH, previous_words=first))
    third = read(engine, part(call, 6.6, 14.0), WindowToRead(ENGLISH, previous_words=first, earlier_words=first))
    other = read(engine, part(call, 6.6, 14.0), WindowToRead(ENGLISH, previous_words=first, earlier_words=("no",)))

    assert (second.agreed_count, other.agreed_count) == (0, 0)
    assert 0 < third.agreed_count < len(third.words)


def test_words_before_a_pause_are_final_once_two_readings_agree(engine: Any, call: Audio) -> None:
    first = read(engine, part(call, 6.6, 11.0))
    assert first.agreed_count == 0

    previous = tuple(word.text for word in first.words)
    paused = Audio(np.concatenate([part(call, 6.6, 13.0).samples, silence(0.5).samples]))
    second = read(engine, paused, WindowToRead(ENGLISH, previous_words=previous))
    assert 0 < second.agreed_count <= len(previous)

    other = read(engine, paused, WindowToRead(ENGLISH, previous_words=("nonsense", *previous)))
    assert other.agreed_count == 0
    assert [word.text for word in other.words] == [word.text for word in second.words]


def test_the_last_reading_makes_all_words_final_within_the_window(engine: Any, call: Audio) -> None:
    for end in (8.0, 9.3, 12.0, 14.7):
        audio = part(call, 6.6, end)
        found = read(engine, audio, WindowToRead(ENGLISH, last=True))

        assert found.words
        assert found.agreed_count == len(found.words)


@pytest.mark.parametrize("seconds", [0.0, 1 / SAMPLE_RATE, 0.01, 0.5, 8.0, 30.0])
@pytest.mark.parametrize("last", [False, True])
def test_silence_has_no_words_and_no_language(engine: Any, seconds: float, last: bool) -> None:
    for options in (ENGLISH, UNKNOWN):
        window = WindowToRead(options, previous_words=("so",), last=last, likely_language="nl")
        assert read(engine, silence(seconds), window) == ReadWindow()


def test_noise_has_no_words(engine: Any) -> None:
    noise = np.random.default_rng(1).normal(0, 200, 6 * SAMPLE_RATE).astype(np.int16)

    assert read(engine, Audio(noise), WindowToRead(ENGLISH, last=True)).words == ()


def test_pieces_of_any_length_can_be_read(engine: Any, call: Audio) -> None:
    for seconds in (0.02, 0.1, 0.3, 0.77, 30.0):
        read(engine, part(call, 6.6, min(6.6 + seconds, call.duration)), WindowToRead(ENGLISH, last=True))
        read(engine, Audio(np.resize(call.samples, round(seconds * SAMPLE_RATE))), WindowToRead(ENGLISH))


def test_the_same_window_gives_the_same_words(engine: Any, call: Audio) -> None:
    audio, window = part(call, 6.6, 12.0), WindowToRead(ENGLISH, previous_words=("Hello?",))

    assert read(engine, audio, window) == read(engine, audio, window)


def test_windows_of_several_sessions_are_read_together(engine: Any, call: Audio) -> None:
    """Their words do not depend on it. The prompts of those with final words have different lengths."""
    final = tuple(word.text for word in read(engine, part(call, 13.0, 17.0), WindowToRead(ENGLISH, last=True)).words)
    assert len(final) > 3
    asked = [
        (part(call, 13.0, end), WindowToRead(ENGLISH, final_words=final[:count], last=last))
        for end in (16.0, 16.3, 16.6, 17.0, 17.2)
        for count in (0, 1, 3)
        for last in (False, True)
    ]
    scheduler = Scheduler(share=True, clock=time.monotonic)
    for number, (audio, window) in enumerate(asked):
        scheduler.add(number, engine.infer(audio, window), Scheduling(SchedulingClass.LIVE, f"session {number}"))
    occurred = list(chain.from_iterable(iter(scheduler.step, [])))

    ends = {number: each.value for number, each in occurred if isinstance(each, Ended)}
    assert [ends[number] for number in range(len(asked))] == [read(engine, *each) for each in asked]
    assert sum(each.requests >= 2 for _, each in occurred if isinstance(each, Step)) > 5


def test_a_reading_can_be_closed_between_two_batches(engine: Any, call: Audio) -> None:
    work = engine.infer(part(call, 6.6, 12.0), WindowToRead(ENGLISH))
    assert isinstance(next(work), Batch)
    work.close()

    assert read(engine, part(call, 6.6, 12.0)).words


def test_hotwords_are_accepted(engine: Any, call: Audio) -> None:
    window = WindowToRead(replace(ENGLISH, hotwords=("New Jersey", "Careca" * 300)), last=True)

    words = read(engine, part(call, 6.6, 14.0), window).words

    assert len(text_of(words)) > 5


# Languages


def test_the_language_of_a_session_is_found(base: Any, call: Audio) -> None:
    session = session_of(base, part(call, 6.6, 20.0), UNKNOWN)

    assert set(session.languages) == {"en"}
    assert "texas" in text_of(session.words)


def test_a_language_that_is_named_is_kept(base: Any, call: Audio) -> None:
    session = session_of(base, part(call, 6.6, 14.0), replace(ENGLISH, language="nl"))

    assert set(session.languages) == {"nl"}
    assert {window.options.language for window in session.windows} == {"nl"}


def test_too_little_speech_has_no_language_and_no_final_words_before_the_end(base: Any, call: Audio) -> None:
    audio = part(call, 6.6, 7.9)
    first = read(base, audio, WindowToRead(UNKNOWN))
    previous = tuple(word.text for word in first.words)
    assert (first.language, first.agreed_count) == ("", 0)

    again = read(base, audio, WindowToRead(UNKNOWN, previous_words=previous))
    assert (again.language, again.agreed_count) == ("", 0)
    assert read(base, audio, WindowToRead(UNKNOWN, last=True)).language
    likely = read(base, audio, WindowToRead(UNKNOWN, previous_words=previous, likely_language="en"))
    assert likely.language == "en"


def test_a_language_that_the_model_does_not_have_is_refused(tiny: Any, call: Audio) -> None:
    with pytest.raises(InvalidRequest):
        read(tiny, part(call, 6.6, 9.0), WindowToRead(replace(ENGLISH, language="nl")))


# The request


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"translate": True}, "options.translate"),
        ({"initial_prompt": "So,"}, "options.initial_prompt"),
        ({"language_code": "xx"}, "options.language_code"),
        ({"beam_size": 21}, "options.beam_size"),
    ],
)
def test_options_that_a_window_cannot_have_are_refused(options: dict[str, Any], field: str) -> None:
    request = transcriber_pb2.ReadWindowRequest(options=audio_pb2.TranscriptionOptions(**options))

    with pytest.raises(InvalidRequest) as refused:
        codec.decode_window_to_read(request)

    assert refused.value.field == field
