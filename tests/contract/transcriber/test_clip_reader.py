"""Whisper reads clips in windows of their length, and each clip as if it were alone."""

import numpy as np
import pytest
from faster_whisper import WhisperModel

from careca.models import ModelStore
from careca.types import SAMPLE_RATE
from careca_transcriber.clip_reader import ClipAudio, ClipReader, ReadingOptions, window_for
from careca_transcriber.context import Context
from careca_transcriber.speech import Span
from support.whisper import whisper


@pytest.fixture(scope="module")
def reader():
    settings = whisper("whisper-tiny.en")._settings
    folder = ModelStore(settings.models_dir).verify("whisper-tiny.en")
    return ClipReader(
        WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=2, local_files_only=True)
    )


@pytest.fixture(scope="module")
def samples(call):
    return call.float32()


def clip_of(samples, start, end):
    span = Span(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))
    return ClipAudio(span, samples[span.start : span.end])


def options(window_seconds, **changes):
    values = {"language": "en", "translate": False, "beam_size": 5, "context": Context(None, None)} | changes
    return ReadingOptions(**values, window_samples=window_seconds * SAMPLE_RATE)


def text(reading):
    return " ".join(segment.text for segment in reading.segments)


@pytest.mark.parametrize(("seconds", "window"), [(0.1, 6), (3, 6), (3.1, 9), (14, 18), (26, 30), (29, 30), (30, 30)])
def test_a_window_is_three_seconds_longer_than_its_clip(seconds, window):
    assert window_for(Span(0, round(seconds * SAMPLE_RATE))) == window * SAMPLE_RATE


def test_each_clip_of_a_batch_is_read_as_if_it_were_alone(reader, samples):
    clips = [clip_of(samples, *times) for times in ((6.6, 13), (13, 20.2), (20, 26), (6.6, 13))]

    together = reader.read(clips, options(12))

    assert together == [reader.read([clip], options(12))[0] for clip in clips]
    assert together[::-1] == reader.read(clips[::-1], options(12))
    assert together[0] == together[3]
    assert all(text(reading) for reading in together)


def test_words_have_the_time_at_which_they_are_said_in_every_window(reader, samples):
    clip = clip_of(samples, 6.6, 20.2)

    for window in (18, 21, 30):
        (reading,) = reader.read([clip], options(window))
        starts = {
            word.text.strip(",.?"): word.start
            for segment in reversed(reading.segments)
            for word in reversed(segment.words)
        }
        assert starts["Hello"] == pytest.approx(6.8, abs=0.4)
        assert starts["Jersey"] == pytest.approx(13.7, abs=0.4)


def test_a_clip_without_speech_has_no_text(reader):
    (reading,) = reader.read([ClipAudio(Span(0, SAMPLE_RATE), np.zeros(SAMPLE_RATE, np.float32))], options(6))

    assert "".join(text(reading)).strip(" .") in ("", "you")  # what Whisper says of silence; see ``judge``
    assert reading.no_speech_probability > 0.3


def test_hotwords_and_a_prompt_are_part_of_the_input(reader, samples):
    clip = clip_of(samples, 6.6, 20.2)

    plain = reader.read([clip], options(18))
    with_context = reader.read([clip], options(18, context=Context("Dianne, Chicago", "a call")))

    assert plain != with_context
