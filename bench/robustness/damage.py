"""Ways in which recordings get worse on their way here: codecs, levels, noise, rooms, speed. The same damage each time.

Each damage takes 16 kHz mono audio and gives it back as a listener at the other end would get it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
import numpy as np
import numpy.typing as npt
import soundfile
from av.audio.stream import AudioStream
from scipy import signal

from bench.common import audio
from careca.types import SAMPLE_RATE

Samples = npt.NDArray[np.int16]
"""Audio at 16 kHz: shape (samples,)."""

_TELEPHONE_RATE = 8_000
_FULL_SCALE = 32_768
_SEED = 20
_SPEEDS_UP_BY = Fraction(103, 100)
_REVERB_SECONDS = 0.6
"""Time in which the sound of the room falls by 60 dB: a meeting room with bare walls."""
_DIRECT_TO_REVERB_DB = 3.0
"""The energy of the direct sound over that of the room: a talker some metres from the microphone."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done to a recording, and by how much its clock runs faster afterwards."""

    apply: Callable[[Samples], Samples]
    speed: Fraction = Fraction(1)


def through_telephone(subtype: str) -> Callable[[Samples], Samples]:
    """Coded at 8 kHz as libsndfile's ``subtype``: ALAW, ULAW, GSM610 or IMA_ADPCM."""

    def apply(samples: Samples) -> Samples:
        narrow = _resampled(samples, Fraction(_TELEPHONE_RATE, SAMPLE_RATE))
        file = io.BytesIO()
        soundfile.write(file, narrow, _TELEPHONE_RATE, format="WAV", subtype=subtype)
        file.seek(0)
        heard, _ = soundfile.read(file, dtype="int16")
        return _resampled(heard, Fraction(SAMPLE_RATE, _TELEPHONE_RATE))[: len(samples)]

    return apply


def through_encoder(codec: str, container: str, bits_per_second: int) -> Callable[[Samples], Samples]:
    """Coded by FFmpeg's ``codec`` at that rate, without the samples that the codec puts in front."""

    def apply(samples: Samples) -> Samples:
        file = io.BytesIO()
        with av.open(file, "w", format=container) as writer:
            stream = cast(AudioStream, writer.add_stream(codec, rate=SAMPLE_RATE, bit_rate=bits_per_second))
            stream.layout = "mono"
            resampler = av.AudioResampler(
                format=stream.codec_context.format or "s16", layout="mono", rate=stream.codec_context.sample_rate
            )
            frame = av.AudioFrame.from_ndarray(samples[None, :], "s16", "mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, 0
            for ready in [*resampler.resample(frame), *resampler.resample(None)]:
                writer.mux(stream.encode(ready))
            writer.mux(stream.encode(None))
        file.seek(0)
        heard = audio.decode(file)[: len(samples)]
        return np.pad(heard, (0, len(samples) - len(heard)))

    return apply


def amplified(decibels: float) -> Callable[[Samples], Samples]:
    """Louder or, where negative, quieter; what does not fit is cut off at full scale."""

    def apply(samples: Samples) -> Samples:
        return _to_int16(samples.astype(np.float64) * 10 ** (decibels / 20))

    return apply


def in_noise(ratio_db: float) -> Callable[[Samples], Samples]:
    """In pink noise, ``ratio_db`` below the recording's level where somebody speaks (its louder half)."""

    def apply(samples: Samples) -> Samples:
        noise = audio.pink_noise(len(samples), np.random.default_rng(_SEED))
        noise *= _speech_level(samples) * 10 ** (-ratio_db / 20) / noise.std()
        return _to_int16(samples + noise)

    return apply


def in_room(samples: Samples) -> Samples:
    """With the echo of a room: noise that fades out (Polack's model), after the direct sound."""
    chance = np.random.default_rng(_SEED)
    times = np.arange(round(_REVERB_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    response = chance.standard_normal(len(times)) * 10 ** (-3 * times / _REVERB_SECONDS)
    response[: SAMPLE_RATE // 200] = 0.0  # the first reflection arrives after 5 ms
    response *= 10 ** (-_DIRECT_TO_REVERB_DB / 20) / np.sqrt(np.sum(response**2))
    response[0] = 1.0
    return _to_int16(signal.fftconvolve(samples.astype(np.float64), response)[: len(samples)])


def faster(samples: Samples) -> Samples:
    """Played 3 % too fast, as tape and wrong sample rates do: voices are higher, too."""
    return _resampled(samples, 1 / _SPEEDS_UP_BY)


DAMAGES: Mapping[str, Damage] = {
    "A-law 8 kHz": Damage(through_telephone("ALAW")),
    "mu-law 8 kHz": Damage(through_telephone("ULAW")),
    "GSM 8 kHz": Damage(through_telephone("GSM610")),
    "IMA ADPCM 8 kHz": Damage(through_telephone("IMA_ADPCM")),
    "Opus 12 kbit/s": Damage(through_encoder("libopus", "ogg", 12_000)),
    "MP3 24 kbit/s": Damage(through_encoder("libmp3lame", "mp3", 24_000)),
    "18 dB too loud, clipped": Damage(amplified(18.0)),
    "30 dB quieter": Damage(amplified(-30.0)),
    "noise at 15 dB": Damage(in_noise(15.0)),
    "reverb 0.6 s": Damage(in_room),
    "3 % faster": Damage(faster, _SPEEDS_UP_BY),
}
"""Every damage by its name."""


def _resampled(samples: Samples, factor: Fraction) -> Samples:
    return _to_int16(signal.resample_poly(samples.astype(np.float64), factor.numerator, factor.denominator))


def _speech_level(samples: Samples) -> float:
    """Root mean square of the louder half of all tenths of a second."""
    size = SAMPLE_RATE // 10
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    power = np.sort((frames**2).mean(axis=1))
    return float(np.sqrt(power[len(power) // 2 :].mean())) if len(power) else 0.0


def _to_int16(samples: npt.NDArray[np.float64]) -> Samples:
    return np.clip(np.round(samples), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
