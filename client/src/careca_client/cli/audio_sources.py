"""Where ``careca live`` gets its audio: a WAV file, the standard input, or the microphone."""

from __future__ import annotations

import importlib
import queue
import sys
import threading
import time
import wave
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from careca.codec.options import MAX_LIVE_CHANNELS
from careca.errors import InvalidRecording, PreconditionFailed
from careca_client.cli.options.inputs import check_readable
from careca_client.live import LiveEncoding

CHUNK_SECONDS = 0.1
"""How much audio is sent at a time."""

_MICROPHONE_RATE = 16_000
_WAV_RATES = range(8_000, 48_001)
_WAV_CHANNELS = range(1, MAX_LIVE_CHANNELS + 1)
_G711_RATE = 8_000
_CONTAINER_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class AudioSource:
    """Audio to send."""

    name: str
    """The name for messages."""
    chunks: AbstractContextManager[Iterator[bytes]]
    """Yields the audio. Closes the source at the end of the ``with`` block."""
    encoding: LiveEncoding = LiveEncoding.PCM
    sample_rate: int | None = _MICROPHONE_RATE
    """``None`` for a container, which says it itself."""
    channels: int | None = 1
    """The number of channels; ``None`` for a container."""
    display_name: str = ""
    """The name of the recording; empty if it has none."""
    bytes_per_second: int | None = 2 * _MICROPHONE_RATE
    """Bytes in a second of the audio; ``None`` if unknown."""


def wav_file(path: str) -> AudioSource:
    """Returns the audio of a WAV file, with all its channels.

    Raises ``OSError`` if it cannot be read, ``InvalidRecording`` if it is not a WAV file of 16-bit PCM, mono or stereo.
    """
    check_readable(path)
    try:
        reader = wave.open(path, "rb")  # noqa: SIM115 -- the context of the chunks closes it
    except (wave.Error, EOFError) as error:
        raise _not_a_wav(path, str(error) or "it is empty") from None
    channels, rate = reader.getnchannels(), reader.getframerate()
    if channels not in _WAV_CHANNELS or reader.getsampwidth() != 2 or rate not in _WAV_RATES:
        reader.close()
        raise _not_a_wav(path, f"it has {channels} channels of {8 * reader.getsampwidth()} bits at {rate} Hz")

    @contextmanager
    def chunks() -> Iterator[Iterator[bytes]]:
        with reader:
            yield iter(lambda: reader.readframes(int(rate * CHUNK_SECONDS)), b"")

    return AudioSource(
        path,
        chunks(),
        sample_rate=rate,
        channels=channels,
        display_name=Path(path).name,
        bytes_per_second=2 * channels * rate,
    )


def stdin_audio(encoding: LiveEncoding, sample_rate: int | None, channels: int | None) -> AudioSource:
    """Returns the audio that comes through the standard input, as soon as it comes."""
    # The buffered reader waits for whole chunks, and has a lock that a thread may hold when the program ends.
    stream = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    if encoding is LiveEncoding.CONTAINER:
        chunks = iter(lambda: stream.read(_CONTAINER_CHUNK_BYTES) or b"", b"")
        return AudioSource("stdin", nullcontext(chunks), encoding, sample_rate, channels, bytes_per_second=None)
    rate = sample_rate or (_MICROPHONE_RATE if encoding is LiveEncoding.PCM else _G711_RATE)
    size = (2 if encoding is LiveEncoding.PCM else 1) * (channels or 1)
    chunks = iter(lambda: stream.read(int(rate * CHUNK_SECONDS) * size) or b"", b"")
    return AudioSource("stdin", nullcontext(chunks), encoding, rate, channels or 1, bytes_per_second=rate * size)


def microphone() -> AudioSource:
    """Returns the audio of the microphone.

    Raises ``PreconditionFailed`` (``NO_MICROPHONE``) if the library for it is missing or there is none.
    """
    try:
        sounddevice = importlib.import_module("sounddevice")
    except ImportError:
        raise _no_microphone("it needs a library: install careca-client[live], or name a WAV file") from None
    except OSError as error:
        raise _no_microphone(f"{error}: install PortAudio (libportaudio2), or name a WAV file") from None
    return AudioSource("microphone", _recorded(sounddevice))


@contextmanager
def _recorded(sounddevice: Any) -> Iterator[Iterator[bytes]]:
    # Without a limit: what is said while the connection is broken must not be lost.
    recorded: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    try:
        stream = sounddevice.RawInputStream(
            samplerate=_MICROPHONE_RATE,
            channels=1,
            dtype="int16",
            blocksize=int(_MICROPHONE_RATE * CHUNK_SECONDS),
            callback=lambda data, *_: recorded.put(bytes(data)),
        )
    except sounddevice.PortAudioError as error:
        raise _no_microphone(f"{error}: connect one, or name a WAV file") from None
    try:
        with stream:
            yield iter(recorded.get, None)
    finally:
        recorded.put(None)


def paced(chunks: Iterator[bytes], bytes_per_second: int, stopped: threading.Event) -> Iterator[bytes]:
    """Yields each chunk when it would have been spoken."""
    begin, sent_bytes = time.monotonic(), 0
    for chunk in chunks:
        yield chunk
        sent_bytes += len(chunk)
        if stopped.wait(max(0.0, begin + sent_bytes / bytes_per_second - time.monotonic())):
            return


def _not_a_wav(path: str, why: str) -> InvalidRecording:
    return InvalidRecording(
        f"{path} is not a WAV file of 16-bit PCM, mono or stereo ({why}): convert it with "
        f"`ffmpeg -i {path} -ac 1 -ar 16000 -c:a pcm_s16le {Path(path).stem}-mono.wav`",
        reason="NOT_A_RECORDING",
    )


def _no_microphone(why: str) -> PreconditionFailed:
    return PreconditionFailed(f"the microphone cannot be used: {why}", reason="NO_MICROPHONE")
