"""The phone call that pyannote.audio's wheel carries: 30 s of two people, with the truth of who speaks when."""

from __future__ import annotations

import importlib.util
import wave
from pathlib import Path

import numpy as np

from careca.inference.audio import Audio
from careca.types import SAMPLE_RATE, Turn


def phone_call() -> Audio:
    """The call."""
    with wave.open(str(_folder() / "sample.wav")) as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (SAMPLE_RATE, 1, 2)
        return Audio(np.frombuffer(reader.readframes(reader.getnframes()), dtype="<i2"))


def phone_call_turns() -> list[Turn]:
    """Who speaks when in it."""
    lines = [line.split() for line in (_folder() / "sample.rttm").read_text().splitlines()]
    return [Turn(float(start), float(start) + float(length), name) for _, _, _, start, length, _, _, name, *_ in lines]


def _folder() -> Path:
    package = importlib.util.find_spec("pyannote.audio")
    assert package
    assert package.origin
    return Path(package.origin).parent / "sample"
