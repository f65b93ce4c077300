"""Loaded engines that all tests of the transcriber share."""

import pytest

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
