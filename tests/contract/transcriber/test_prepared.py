"""What is prepared with the beginning of a recording is used for all of it, and changes nothing."""

import numpy as np
import pytest

from careca.inference.audio import Audio
from careca.inference.engine import Batch, complete
from careca.inference.preparation import PreparedResults, with_prepared
from careca.types import SAMPLE_RATE, TranscriptionOptions
from support.work import kind_of, watched


@pytest.fixture(scope="module")
def talk(call):
    """A minute and a half, with a pause after each call."""
    pause = np.zeros(2 * SAMPLE_RATE, dtype=np.int16)
    return Audio(np.concatenate([call.samples, pause] * 3))


def counted(work, computed):
    """Notes the kinds of the items that are computed."""

    def note(asked):
        if isinstance(asked, Batch):
            computed.extend([kind_of(asked)] * len(asked.items))

    return watched(work, note)


def test_the_transcript_is_the_same(tiny, talk):
    prepared = PreparedResults()
    options = TranscriptionOptions(beam_size=1)
    for seconds in (40, 70, 80):
        complete(with_prepared(tiny.infer(Audio(talk.samples[: seconds * SAMPLE_RATE]), options), prepared, keep=True))
    alone, computed = [], []
    expected = complete(counted(tiny.infer(talk, options), alone))

    found = complete(counted(with_prepared(tiny.infer(talk, options), prepared, keep=False), computed))

    assert found == expected
    assert computed.count("read") < alone.count("read") / 2
    assert computed.count("speech") == 1 < alone.count("speech")


def test_only_the_end_of_the_speech_is_read_for_the_result(tiny, talk):
    """A clip that may go on is not read before. What is read before does not depend on the clips beside it."""
    prepared, options = PreparedResults(), TranscriptionOptions(beam_size=1)
    preparing, alone, computed = [], [], []
    for seconds in range(10, 85, 5):
        work = tiny.infer(Audio(talk.samples[: seconds * SAMPLE_RATE]), options)
        complete(counted(with_prepared(work, prepared, keep=True), preparing))
    expected = complete(counted(tiny.infer(talk, options), alone))

    found = complete(counted(with_prepared(tiny.infer(talk, options), prepared, keep=False), computed))

    assert found == expected
    assert computed.count("read") == 1
    assert preparing.count("read") <= alone.count("read"), "the last clip was not read at each of 15 times"


def test_other_options_use_nothing(tiny, talk):
    prepared = PreparedResults()
    complete(with_prepared(tiny.infer(talk, TranscriptionOptions(beam_size=1)), prepared, keep=True))
    computed = []

    work = tiny.infer(talk, TranscriptionOptions(beam_size=2))
    complete(counted(with_prepared(work, prepared, keep=False), computed))

    assert computed.count("read") > 1
    assert computed.count("speech") == 0
