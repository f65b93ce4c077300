"""What the service without a model finds in live audio: as many words as there is time for, each once."""

import time
from itertools import chain

import numpy as np
import pytest

from careca.inference.audio import Audio
from careca.inference.engine import complete
from careca.inference.scheduler import Ended, Scheduler, Step
from careca.types import SAMPLE_RATE, Scheduling, SchedulingClass, TranscriptionOptions, WindowToRead, Word
from careca_gateway.live.words import WordStream
from timed_service import TALK, WORD_SECONDS, TimedTranscriber


def words_of(engine: TimedTranscriber, seconds: float) -> list[Word]:
    """The final words of a session that is read twice a second."""
    stream, words, now = WordStream(TranscriptionOptions(), pause=0.8), [], 0.0
    while now < seconds:
        now = min(now + 0.5, seconds)
        last = now == seconds or stream.must_end(now)
        window = stream.window(last=last)
        assert isinstance(window, WindowToRead)
        audio = Audio(np.ones(round((now - stream.start) * SAMPLE_RATE), np.int16))
        words += stream.add(complete(engine.infer(audio, window)), now, last=last).final
    return words


def test_people_who_talk_all_the_time_say_a_word_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TALK, "1")

    words = words_of(TimedTranscriber(), 30.0)

    assert len(words) == int(30.0 / WORD_SECONDS)
    assert [word.start for word in words] == pytest.approx([number * WORD_SECONDS for number in range(len(words))])


def test_windows_of_several_sessions_share_a_batch() -> None:
    engine, scheduler = TimedTranscriber(), Scheduler(share=True, clock=time.monotonic)
    for number in range(3):
        work = engine.infer(Audio(np.ones(SAMPLE_RATE, np.int16)), WindowToRead(TranscriptionOptions()))
        scheduler.add(number, work, Scheduling(SchedulingClass.LIVE, f"session {number}"))

    occurred = [occurrence for _, occurrence in chain.from_iterable(iter(scheduler.step, []))]

    assert [step.requests for step in occurred if isinstance(step, Step)] == [3]
    assert all(ended.value.words for ended in occurred if isinstance(ended, Ended))
