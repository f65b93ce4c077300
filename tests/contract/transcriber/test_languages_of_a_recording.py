"""Recordings that change their language, with the real model: each passage is transcribed in its language."""

import itertools

import numpy as np
import pytest

from bench.common.audio import decode
from careca.inference.audio import Audio
from careca.inference.engine import Batch, complete
from careca.types import SAMPLE_RATE, Progress, Segment, TranscriptionOptions
from support.labelled import labelled
from support.work import kind_of, watched

pytestmark = pytest.mark.models


def read(name):
    """A FLEURS sentence without the silence around it."""
    samples = decode(labelled(f"fleurs/fleurs-{name}.ogg"))
    level = np.abs(samples.astype(np.int32))
    loud = np.flatnonzero(level > level.max() / 20)
    return samples[loud[0] : loud[-1]]


def pause(seconds):
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


def transcribe(engine, *parts, options=None, emit=lambda _: None):
    return complete(engine.infer(Audio(np.concatenate(parts)), options or TranscriptionOptions()), emit)


def languages(transcript):
    """The languages in order, without consecutive repetitions."""
    codes = [segment.language for segment in transcript.segments]
    return [code for index, code in enumerate(codes) if index == 0 or codes[index - 1] != code]


def text_of(transcript, language):
    return " ".join(segment.text for segment in transcript.segments if segment.language == language).lower()


SENTENCES = {"en": "en-002", "es": "es-000", "pt": "pt-004"}


def three_sentences():
    """Three languages, with a fifth of a second between two; more than the 30 s that Whisper hears at once."""
    spoken = [read(name) for name in SENTENCES.values()]
    return np.concatenate([spoken[0], pause(0.2), spoken[1], pause(0.2), spoken[2]])


@pytest.fixture(scope="module")
def events():
    """What is told during the transcription of three languages."""
    return []


@pytest.fixture(scope="module")
def batches():
    """The kinds of the batches that are computed for it before the first segment, in order."""
    return []


@pytest.fixture(scope="module")
def three_languages(base, events, batches):
    """Takes more than ten seconds, as each passage is transcribed alone. All tests of its result share it."""
    segments = []

    def note(asked):
        if isinstance(asked, Segment):
            segments.append(asked)
        elif isinstance(asked, Batch) and not segments:
            batches.append(kind_of(asked))

    return complete(watched(base.infer(Audio(three_sentences()), TranscriptionOptions()), note), events.append)


def test_each_of_three_languages_is_transcribed_in_that_language(three_languages):
    assert languages(three_languages) == ["en", "es", "pt"]
    assert "fascinating town" in text_of(three_languages, "en")
    assert "viajeros" in text_of(three_languages, "es")
    assert "aprendizado" in text_of(three_languages, "pt")
    assert sum(len(segment.words) for segment in three_languages.segments) > 50


def test_the_three_languages_change_where_the_recording_does(three_languages):
    begin = 0.0
    for code, name in SENTENCES.items():
        segments = [segment for segment in three_languages.segments if segment.language == code]
        end = begin + len(read(name)) / SAMPLE_RATE
        assert segments[0].start == pytest.approx(begin, abs=1.0)
        assert end - 2 < segments[-1].end <= end + 0.1
        begin = end + 0.2


def test_the_transcript_has_the_language_of_the_most_speech_and_not_of_its_start(three_languages):
    assert three_languages.language == "pt"
    assert 0.5 < three_languages.language_probability <= 1


def test_progress_increases_during_language_detection(three_languages, events):
    fractions = [event.fraction for event in events if isinstance(event, Progress)]

    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_language_detection_is_work_in_batches_before_the_first_segment(three_languages, batches):
    assert [key for key, _ in itertools.groupby(batches)][:2] == ["speech", "languages"]
    assert batches.count("languages") > 1


def test_the_requested_language_is_that_of_every_segment(base):
    parts = [read(name) for name in ("en-002", "es-002")]

    transcript = transcribe(base, *parts, options=TranscriptionOptions(language="es"))

    assert transcript.segments
    assert {segment.language for segment in transcript.segments} == {"es"}
    assert (transcript.language, transcript.language_probability) == ("es", 1.0)


def test_each_passage_is_translated_from_its_own_language(base):
    parts = [read(name) for name in ("es-002", "pt-004")]

    transcript = transcribe(base, *parts, options=TranscriptionOptions(translate=True))

    assert languages(transcript) == ["es", "pt"]
    assert "people" in text_of(transcript, "es")
    assert "learning" in text_of(transcript, "pt")
    assert not {"que", "os", "las", "los"} & set(" ".join(segment.text for segment in transcript.segments).split())
