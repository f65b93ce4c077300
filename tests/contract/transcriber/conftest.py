"""Loaded engines and a recording that all tests of the transcriber share."""

import importlib.util
import wave
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from careca.inference.audio import Audio
from careca.types import SAMPLE_RATE
from support.whisper import whisper


@pytest.fixture(scope="session")
def tiny():
    """English only, with batches of two clips, so that there is more than one batch."""
    engine = whisper("whisper-tiny.en", whisper_batch_size=2)
    engine.load()
    return engine


@pytest.fixture(scope="session")
def base():
    engine = whisper("whisper-base")
    engine.load()
    return engine


@pytest.fixture(scope="session")
def exact():
    """Engines that compute with float32. With int8, processors round differently, and some read other words."""

    @cache
    def load(model):
        engine = whisper(model, whisper_compute_type="float32")
        engine.load()
        return engine

    return load


@pytest.fixture(scope="session")
def call():
    """The phone call that pyannote.audio's wheel carries: 30 s, two people."""
    package = importlib.util.find_spec("pyannote.audio")
    assert package
    assert package.origin
    with wave.open(str(Path(package.origin).parent / "sample" / "sample.wav")) as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (SAMPLE_RATE, 1, 2)
        return Audio(np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2"))
