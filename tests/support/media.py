"""Recordings made on the spot: any codec and container, with video, with holes, with nothing in them."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from fractions import Fraction
from operator import itemgetter
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Disposition


def tone(
    seconds: float, rate: int = 16_000, *, channels: int = 1, hertz: float | Sequence[float] = 440.0
) -> np.ndarray:
    """A sine, shape (samples, channels), int16: the same on all channels, or another one on each."""
    time = np.arange(round(seconds * rate)) / rate
    turns = time[:, None] * np.broadcast_to(hertz, (channels,))
    sine: np.ndarray = (np.sin(2 * np.pi * turns) * 12_000).astype(np.int16)
    return sine


def wav(samples: np.ndarray, rate: int = 16_000) -> bytes:
    """A WAV file of ``samples``, shape (samples, channels)."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(samples.shape[1])
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def recording(
    container: str,
    codec: str,
    seconds: float = 2.0,
    *,
    rate: int = 16_000,
    channels: int = 1,
    video: bool = False,
    start: float = 0.0,
    hole: tuple[float, float] | None = None,
    hertz: float | Sequence[float] = 440.0,
) -> bytes:
    """A tone in any container and codec; with several ``hertz`` another one on each channel.

    With ``video`` there is a picture from time zero, while the sound begins at ``start``. ``hole`` is a stretch, from
    and to in seconds, for which there is no sound although the clock goes on.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=container, options={"fflags": "+bitexact"}) as output:  # the same each time
        picture = _add_picture(output) if video else None
        stream = output.add_stream(codec, rate=rate, layout="stereo" if channels == 2 else "mono")
        assert isinstance(stream, AudioStream)
        if picture is not None:
            for index in range(int(seconds + start) * 5 + 5):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), index % 255, np.uint8), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 5)
                output.mux(picture.encode(frame))
        _write_sound(output, stream, tone(seconds, rate, channels=channels, hertz=hertz), rate, start, hole)
        if picture is not None:
            output.mux(picture.encode(None))
    return file.getvalue()


def endless_silence(hours: float) -> bytes:
    """Hours of silence in a few megabytes: one frame of AAC at 8 kHz, again and again."""
    frames = recording("adts", "aac", 1.0, rate=8_000, hertz=0.0)
    length = ((frames[3] & 3) << 11) | (frames[4] << 3) | (frames[5] >> 5)
    first = frames[length:]
    length = ((first[3] & 3) << 11) | (first[4] << 3) | (first[5] >> 5)
    return first[:length] * round(hours * 3600 * 8_000 / 1024)


def silent_film(seconds: int = 2) -> bytes:
    """A video without an audio track."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        picture = _add_picture(output)
        for index in range(seconds * 5):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 5)
            output.mux(picture.encode(frame))
        output.mux(picture.encode(None))
    return file.getvalue()


def _add_picture(output: OutputContainer) -> av.VideoStream:
    picture = output.add_stream("mpeg4", rate=5)
    assert isinstance(picture, av.VideoStream)
    picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
    return picture


def _write_sound(
    output: OutputContainer,
    stream: AudioStream,
    samples: np.ndarray,
    rate: int,
    start: float,
    hole: tuple[float, float] | None,
) -> None:
    block = rate // 10
    for first in range(0, len(samples), block):
        if hole and hole[0] * rate <= first < hole[1] * rate:
            continue
        part = samples[first : first + block]
        layout = "stereo" if samples.shape[1] == 2 else "mono"
        frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = first + round(start * rate)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def encoded(
    container: str,
    codec: str,
    *sounds: np.ndarray,
    rate: int = 16_000,
    titles: Sequence[str] = (),
    languages: Sequence[str] = (),
    default: int | None = None,
    starts: Sequence[float] = (),
    interleaved: bool = True,
    bit_rate: int | None = None,
    options: dict[str, str] | None = None,
    file: io.BytesIO | Pipe | Path | None = None,
) -> bytes:
    """One or several audio tracks, each of samples from -1 to 1 of shape (samples,) or (samples, channels).

    ``default`` is the index of the one that is marked as default, ``starts`` says when each begins.
    """
    target = io.BytesIO() if file is None else file
    apart = {} if interleaved else {"max_interleave_delta": "1"}
    opened = str(target) if isinstance(target, Path) else target
    with av.open(opened, "w", format=container, options={**apart, **(options or {})}) as output:
        streams = [_add_sound(output, codec, sound, rate, bit_rate) for sound in sounds]
        for stream, title in zip(streams, titles, strict=False):
            stream.metadata["title"] = title
        for stream, language in zip(streams, languages, strict=False):
            stream.metadata["language"] = language
        if default is not None:
            for index, stream in enumerate(streams):
                stream.disposition = Disposition.default if index == default else Disposition(0)
        blocks = [
            (first + offset * rate, stream, sound[first : first + rate // 10])
            for stream, sound, offset in zip(streams, sounds, [*starts, *[0.0] * len(sounds)], strict=False)
            for first in range(0, len(sound), rate // 10)
        ]
        for time, stream, block in sorted(blocks, key=itemgetter(0)) if interleaved else blocks:
            output.mux(stream.encode(_frame(block, round(time), rate)))
        for stream in streams:
            output.mux(stream.encode(None))
    return target.read_bytes() if isinstance(target, Path) else target.getvalue()


class Pipe:
    """A file that cannot go back, as programs write into a pipe."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def getvalue(self) -> bytes:
        return bytes(self._written)


def _add_sound(output: OutputContainer, codec: str, sound: np.ndarray, rate: int, bit_rate: int | None) -> AudioStream:
    stream = output.add_stream(codec, rate=rate, layout="mono" if sound.ndim == 1 else "stereo")
    assert isinstance(stream, AudioStream)
    if bit_rate is not None:
        stream.bit_rate = bit_rate
    if codec in ("flac", "pcm_s24le", "wavpack"):
        stream.format = "s32p" if codec == "wavpack" else "s32"
    return stream


def _frame(samples: np.ndarray, time: int, rate: int) -> av.AudioFrame:
    layout = "mono" if samples.ndim == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(samples.astype(np.float32).reshape(1, -1), format="flt", layout=layout)
    frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), time
    return frame
