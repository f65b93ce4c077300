"""The speech to measure with. Folders of WAV files are read with the standard library: a bare machine has no PyAV."""

from __future__ import annotations

import math
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.common import dataset
from careca.types import SAMPLE_BYTES, SAMPLE_RATE

Samples = npt.NDArray[np.int16]

STREAMS = 16
_SHORTEST_OVER_LONGEST = 1 / 3
_LONGEST_SECONDS = 60.0
_LONGEST_SHARE = 1 / 4


class SpeechError(Exception):
    """There is no usable speech; the message says why."""


def read(folder: Path) -> Samples:
    """The WAV files in ``folder`` one after the other, shape (samples,).

    Raises ``SpeechError`` where there are none, or one is not 16 kHz mono of 16 bits.
    """
    files = sorted(folder.glob("*.wav"))
    if not files:
        raise SpeechError(
            f"{folder} has no WAV files: `python -m bench.gpu prepare --out {folder}/speech.wav` makes one"
        )
    return np.concatenate([_read_wav(file) for file in files])


def from_recordings(seconds: float = math.inf) -> Samples:
    """The benchmarks' conversations one after the other, cut to ``seconds``, shape (samples,). It needs PyAV.

    Large recordings are first, because small ones have little speech.

    Raises ``SpeechError`` without PyAV, and what ``dataset.find`` raises.
    """
    try:
        from bench.common import audio
    except ModuleNotFoundError as error:
        raise SpeechError(f"{error.name} is not installed, so recordings cannot be decoded: name --data") from error
    conversations = dataset.conversations(dataset.find())
    ordered = dataset.spread(conversations, len(conversations))[::-1]
    speech = np.concatenate([audio.decode(each.path) for each in ordered])
    return speech[: _size(min(seconds, len(speech) / SAMPLE_RATE))]


def repeated(speech: Samples, seconds: float) -> Samples:
    """``speech`` again and again, cut to ``seconds``: shape (samples,)."""
    return np.resize(speech, _size(seconds))


def streams(speech: Samples, seconds: float) -> list[Samples]:
    """Different pieces of ``speech``, of 20 to 60 s; shorter where a quarter of ``seconds`` is less than 60 s."""
    longest = min(_LONGEST_SECONDS, seconds * _LONGEST_SHARE)
    starts = np.linspace(0, len(speech), STREAMS, endpoint=False).astype(int)
    lengths = np.linspace(longest * _SHORTEST_OVER_LONGEST, longest, STREAMS)
    return [
        repeated(np.roll(speech, -start), length)
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]


def _size(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def _read_wav(path: Path) -> Samples:
    with wave.open(str(path), "rb") as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (SAMPLE_RATE, 1, SAMPLE_BYTES):
            raise SpeechError(f"{path} is not 16 kHz mono of 16 bits")
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
