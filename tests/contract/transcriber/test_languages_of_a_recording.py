"""Recordings that change their language, with the real model: each passage is transcribed in its language."""

import numpy as np
import pytest

from bench.common.audio import decode
from careca.errors import Cancelled
from careca.inference.audio import Audio
from careca.inference.engine import CancelToken
from careca.types import SAMPLE_RATE, Progress, Segment, TranscriptionOptions
from careca_transcriber.settings import TranscriberSettings
from careca_transcriber.whisper_engine import WhisperEngine
from demo import sample
from support.labelled import awkward, labelled
from support.weights import model_store

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def base():
    engine = WhisperEngine(TranscriberSettings(whisper_model="whisper-base", device="cpu"), model_store("whisper-base"))
    engine.load()
    return engine


def read(name):
    """A FLEURS sentence without the silence around it."""
    samples = decode(labelled(f"fleurs/fleurs-{name}.ogg"))
    level = np.abs(samples.astype(np.int32))
    loud = np.flatnonzero(level > level.max() / 20)
    return samples[loud[0] : loud[-1]]


def pause(seconds):
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


def transcribe(engine, *parts, options=None, emit=lambda _: None, cancel=None):
    audio = Audio(np.concatenate(parts))
    return engine.infer(audio, options or TranscriptionOptions(), cancel or CancelToken(), emit)


def languages(transcript):
    """The languages in order, without consecutive repetitions."""
    codes = [segment.language for segment in transcript.segments]
    return [code for index, code in enumerate(codes) if index == 0 or codes[index - 1] != code]


def text_of(transcript, language):
    return " ".join(segment.text for segment in transcript.segments if segment.language == language).lower()


@pytest.fixture(scope="module")
def three_languages(base):
    return transcribe(base, decode(awkward("three_languages.ogg")))


def test_each_of_three_languages_is_transcribed_in_that_language(three_languages):
    assert languages(three_languages) == ["en", "pt", "es"]
    assert "communication channels" in text_of(three_languages, "en")
    assert "pessoas" in text_of(three_languages, "pt") or "informações" in text_of(three_languages, "pt")
    assert "viajeros" in text_of(three_languages, "es")


def test_the_three_languages_change_where_the_recording_does(three_languages):
    starts = {code: min(s.start for s in three_languages.segments if s.language == code) for code in ("pt", "es")}
    ends = {code: max(s.end for s in three_languages.segments if s.language == code) for code in ("en", "pt")}

    assert ends["en"] <= 10.7
    assert starts["pt"] == pytest.approx(10.9, abs=1.0)
    assert ends["pt"] <= 28.5
    assert starts["es"] == pytest.approx(29.8, abs=1.0)


def test_the_transcript_has_the_language_of_the_most_speech(three_languages):
    assert three_languages.language == "pt"
    assert 0.5 < three_languages.language_probability <= 1


def test_a_pause_of_a_fifth_of_a_second_between_two_languages_is_enough(base):
    parts = [read(name) for name in ("en-002", "es-002", "pt-004")]

    transcript = transcribe(base, parts[0], pause(0.2), parts[1], pause(0.2), parts[2])

    assert languages(transcript) == ["en", "es", "pt"]
    assert sum(len(segment.words) for segment in transcript.segments) > 50


def test_the_requested_language_is_that_of_every_segment(base):
    parts = [read(name) for name in ("en-002", "es-002")]

    transcript = transcribe(base, *parts, options=TranscriptionOptions(language="es"))

    assert transcript.segments
    assert {segment.language for segment in transcript.segments} == {"es"}
    assert (transcript.language, transcript.language_probability) == ("es", 1.0)


def test_each_passage_is_translated_from_its_own_language(base):
    parts = [read(name) for name in ("es-000", "pt-000")]

    transcript = transcribe(base, *parts, options=TranscriptionOptions(translate=True))

    assert languages(transcript) == ["es", "pt"]
    assert "travelers" in text_of(transcript, "es") or "travellers" in text_of(transcript, "es")
    assert not {"que", "os", "las", "los"} & set(" ".join(segment.text for segment in transcript.segments).split())


def test_progress_increases_during_language_detection_and_the_work_can_be_cancelled(base):
    parts = [read(name) for name in ("en-002", "es-002", "pt-004")]
    events = []
    transcribe(base, *parts, emit=events.append)
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    cancel = CancelToken()
    before_any_segment = []

    def stop_within_the_languages(event):
        before_any_segment.append(event)
        if event.fraction > 0.1:
            cancel.cancel()

    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)
    with pytest.raises(Cancelled):
        transcribe(base, *parts, emit=stop_within_the_languages, cancel=cancel)
    assert not [event for event in before_any_segment if isinstance(event, Segment)]


def test_a_call_in_one_language_is_never_divided(base):
    transcript = transcribe(base, decode(sample()))

    assert {segment.language for segment in transcript.segments} == {"en"}
