"""The process that decodes one recording: run by ``careca_gateway.decode``, never imported by the gateway.

FFmpeg reads bytes that strangers made, so it runs here and not in the gateway: with hard limits on memory, processor
time and output, without environment, and confined (``careca_gateway.confinement``) before it sees the first byte.

The recording is standard input, the audio is written to the file descriptors that the arguments name, and each line of
standard output is one JSON object: ``{"fraction": 0.25}`` any number of times, then either ``{"audio": [{"sha256": ...,
"size_bytes": ...}, ...], "damaged_packets": ...}`` with one entry for each file that was written, or ``{"reason": ...,
"message": ...}``. Asked for no file it decodes nothing and says only how it is confined: ``{"confined": [...]}``.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, BinaryIO, NoReturn

import av
import av.audio.codeccontext
import av.error
import av.subtitles.codeccontext
import av.subtitles.stream
import av.video.codeccontext
import av.video.stream
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer

from careca_gateway.confinement import NotConfined, confine
from careca_gateway.crosstalk import Block, CrosstalkGate

# As careca.types has them, which is not imported: it would make the start of each process a quarter longer.
SAMPLE_RATE = 16_000
SAMPLE_BYTES = 2

GAP_SECONDS = 0.1
"""A jump of the timestamps beyond this is a hole, which is filled with silence so that later times stay right."""

LONGEST_GAP_SECONDS = 600.0
"""A longer jump is a broken clock and not a hole; so is one back by more than a second."""

LONGEST_OVERLAP_SECONDS = 1.0

# PyAV imports the modules of each kind of track when it first meets one; here nothing can be opened any more by then,
# so all of them are imported above.

_BUFFER_BYTES = 1 << 20
_PROGRESS_SECONDS = 0.1

_REFERRING_FORMATS = frozenset(
    {
        *("concat", "dash", "hls", "image2", "image2pipe", "imf", "lavfi", "mlv", "rtp", "rtsp", "sap", "sdp"),
        *("vobsub", "alsa", "fbdev", "kmsgrab", "oss", "video4linux2,v4l2", "x11grab"),
    }
)
"""Formats that lead to other files, addresses or devices: what was uploaded must be the recording itself."""

_ACCEPTED = "any file that FFmpeg reads is accepted, such as WAV, MP3, M4A, FLAC, OGG, WebM, MP4 or MKV"
_MIX = "ask for the channels to be mixed (channel_mode CHANNEL_MODE_MIX, the default)"
_UNREADABLE = f"the recording cannot be read: it is damaged, or no recording; {_ACCEPTED}"


class Refusal(Exception):
    """The recording cannot be used; ``reason`` is for programs, the message for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Source(io.FileIO):
    """The recording, as FFmpeg reads it. Seeking to where no file reaches fails for FFmpeg, which knows what to do."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """The new place, or -1."""
        try:
            return super().seek(offset, whence)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOVERFLOW):
                raise
            return -1


class PcmWriter:
    """Writes frames of any shape as 16 kHz 16-bit PCM, all channels mixed into one file or each into its own.

    Separate channels are freed of what they have picked up of each other.

    Args:
        files: the file for the mix, or one for each channel that is accepted.
        max_samples: length of the longest audio that is accepted, per file.
        separate: whether each channel gets a file of its own.
    """

    def __init__(self, files: Sequence[BinaryIO], max_samples: int, *, separate: bool) -> None:
        self._files = files
        self._max_samples = max_samples
        self._separate = separate
        self._hashes = [hashlib.sha256()]
        self._layout = AudioLayout("mono")
        self._samples = 0
        self._gate: CrosstalkGate | None = None
        self._resampler = self._new_resampler()
        self._shape: tuple[object, ...] = ()

    def begin(self, layout: AudioLayout) -> None:
        """Takes the ``layout`` of the first frame, which says how many channels there are to separate."""
        if not self._separate:
            return
        if layout.nb_channels == 1:
            raise Refusal("SINGLE_CHANNEL", f"the recording has a single channel, nothing to separate; {_MIX}")
        if layout.nb_channels > len(self._files):
            raise Refusal(
                "TOO_MANY_CHANNELS",
                f"the recording has {layout.nb_channels} channels; at most {len(self._files)} can be separated; {_MIX}",
            )
        self._hashes = [hashlib.sha256() for _ in range(layout.nb_channels)]
        self._layout = layout
        self._gate = CrosstalkGate(layout.nb_channels)
        self._resampler = self._new_resampler()

    def write(self, frame: AudioFrame) -> None:
        """Appends ``frame``, resampled; frames may change their shape on the way."""
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            self._flush()
            self._shape = shape
        for resampled in self._resampler.resample(frame):
            self._append(resampled)

    def pad(self, seconds: float) -> None:
        """Appends silence up to ``seconds`` from the start."""
        self._flush()
        missing = round(seconds * SAMPLE_RATE) - self._samples
        while missing > 0:
            block = min(missing, _BUFFER_BYTES // SAMPLE_BYTES)
            self._append_pcm([memoryview(bytes(block * SAMPLE_BYTES))] * len(self._hashes))
            missing -= block

    def finish(self) -> list[tuple[str, int]]:
        """SHA-256 and size of all that was written to each file."""
        self._flush()
        if self._gate:
            self._store(self._gate.rest())
        for file in self._files:
            file.flush()
        digests = [digest.hexdigest() for digest in self._hashes]
        if self._separate and len(set(digests)) == 1:
            raise Refusal("IDENTICAL_CHANNELS", f"all channels of the recording carry the same audio; {_MIX}")
        return [(digest, self._samples * SAMPLE_BYTES) for digest in digests]

    def _new_resampler(self) -> AudioResampler:
        return AudioResampler(format="s16p" if self._separate else "s16", layout=self._layout, rate=SAMPLE_RATE)

    def _flush(self) -> None:
        for resampled in self._resampler.resample(None):
            self._append(resampled)
        self._resampler = self._new_resampler()

    def _append(self, frame: AudioFrame) -> None:
        # PyAV counts the planes by their pointers, one too many where there are eight.
        planes = frame.planes[: len(self._hashes)]
        self._append_pcm([memoryview(plane)[: frame.samples * SAMPLE_BYTES] for plane in planes])

    def _append_pcm(self, channels: Sequence[memoryview]) -> None:
        """Appends to each file what is its channel's, all of the same length."""
        self._samples += len(channels[0]) // SAMPLE_BYTES
        if self._samples > self._max_samples:
            limit = f"{self._max_samples / SAMPLE_RATE:g} seconds"
            raise Refusal("RECORDING_TOO_LONG", f"the recording is longer than the {limit} accepted; cut it into parts")
        self._store(self._gate.feed(channels) if self._gate else channels)

    def _store(self, channels: Sequence[Block]) -> None:
        for pcm, digest, file in zip(channels, self._hashes, self._files, strict=False):
            digest.update(pcm)
            file.write(pcm)


class Timeline:
    """Finds holes between frames by their timestamps. Times are seconds; ``origin`` is where the recording starts."""

    def __init__(self, origin: float | None) -> None:
        self._origin = origin

    def gap(self, timestamp: float | None, position: float) -> float:
        """Seconds of silence missing before a frame that says ``timestamp`` after ``position`` seconds of audio."""
        if timestamp is None:
            return 0.0
        if self._origin is None:
            self._origin = timestamp - position
        gap = timestamp - self._origin - position
        if not -LONGEST_OVERLAP_SECONDS <= gap <= LONGEST_GAP_SECONDS:
            self._origin = timestamp - position
            return 0.0
        return gap if gap > GAP_SECONDS else 0.0


class Progress:
    """Says how far the work has come, where the length is known."""

    def __init__(self, duration: float | None) -> None:
        self._duration = duration
        self._next = time.monotonic() + _PROGRESS_SECONDS

    def report(self, position: float) -> None:
        """Says that ``position`` seconds are done, unless it said something a moment ago."""
        now = time.monotonic()
        if self._duration and now >= self._next:
            self._next = now + _PROGRESS_SECONDS
            _say(fraction=min(round(position / self._duration, 3), 1.0))


def main() -> None:
    """Decodes standard input as the JSON object in the first argument says."""
    options = json.loads(sys.argv[1])
    try:
        # Opened before nothing can be any more; what is written to it follows.
        with ExitStack() as opened:
            source = opened.enter_context(Source(0, closefd=False))
            files = [opened.enter_context(os.fdopen(fd, "wb", buffering=_BUFFER_BYTES)) for fd in options["output_fds"]]
            limits = partial(
                restrict, options["memory_bytes"], options["cpu_seconds"], options["max_samples"] * SAMPLE_BYTES
            )
            confined = confine(options["confinement"], limits)
            answer = _decoded(source, files, options) if files else {"confined": confined}
    except Refusal as refusal:
        _say(reason=refusal.reason, message=str(refusal))
    except NotConfined as error:
        _say(reason="NOT_CONFINED", message=f"the decoder cannot be confined: {error}")
    except MemoryError:
        _say(reason="DECODE_LIMIT_EXCEEDED", message="decoding the recording takes more memory than is allowed")
    except av.error.FFmpegError:
        _say(reason="NOT_A_RECORDING", message=_UNREADABLE)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _say(reason="STORE_FULL", message="there is no space left for the decoded audio")
    else:
        _say(**answer)


def _decoded(source: io.RawIOBase, files: Sequence[BinaryIO], options: dict[str, Any]) -> dict[str, object]:
    """What to say of the recording once its audio is in ``files``."""
    writer = PcmWriter(files, options["max_samples"], separate=options["separate"])
    damaged = decode(source, writer)
    audio = [{"sha256": sha256, "size_bytes": size_bytes} for sha256, size_bytes in writer.finish()]
    return {"audio": audio, "damaged_packets": damaged}


def restrict(memory_bytes: int, cpu_seconds: int, output_bytes: int) -> None:
    """Sets the limits of this process; none can be raised again.

    All of descriptors 0, 1 and 2 are in use, so with a limit of three nothing more can be opened: neither a file nor a
    socket, by whichever way a demuxer tries.
    """
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_FSIZE: output_bytes + _BUFFER_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 3,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def decode(recording: io.RawIOBase, writer: PcmWriter) -> int:
    """Decodes the first audio track of ``recording`` into ``writer``; gives the number of damaged packets left out.

    Timestamps keep what follows a damaged or missing part in its place.
    """
    with open_recording(recording) as container:
        stream = _audio_track(container)
        timeline = Timeline(_seconds(container.start_time))
        progress = Progress(_seconds(container.duration))
        position, decoded, damaged = 0.0, 0, 0
        for frame in _frames(container, stream):
            if frame is None:
                damaged += 1
                continue
            if not decoded:
                writer.begin(frame.layout)
            if gap := timeline.gap(_timestamp(frame), position):
                position += gap
                writer.pad(position)
            writer.write(frame)
            decoded += 1
            position += frame.samples / frame.sample_rate
            progress.report(position)
    if damaged > decoded:
        raise Refusal("NOT_A_RECORDING", _UNREADABLE)
    if not decoded:
        raise Refusal("EMPTY_AUDIO", "the recording's audio track is empty: it has no samples")
    return damaged


def open_recording(recording: io.RawIOBase) -> InputContainer:
    """Opens ``recording`` as whatever container it is, forbidding formats that refer to anything outside it."""
    formats = ",".join(sorted(av.formats_available - _REFERRING_FORMATS))
    try:
        return av.open(
            recording,
            mode="r",
            container_options={
                "format_whitelist": formats,
                "protocol_whitelist": "",
                "codec_whitelist": _sound_decoders(),
            },
            metadata_errors="replace",
            buffer_size=_BUFFER_BYTES,
            io_open=_refuse_reference,
        )
    except PermissionError:
        raise Refusal("NOT_A_RECORDING", _UNREADABLE) from None


def _sound_decoders() -> str:
    """Names of all decoders of sound. Those of pictures and subtitles are never run, whatever is in the recording."""
    decoders = {av.Codec(name, "r").name for name in av.codecs_available if _decodes_sound(name)}
    return ",".join(sorted(decoders))


def _decodes_sound(name: str) -> bool:
    try:
        return bool(av.Codec(name, "r").type == "audio")
    except av.codec.codec.UnknownCodecError:  # one that only encodes
        return False


def _refuse_reference(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    """Stands in for FFmpeg's own opening of what a file refers to."""
    raise PermissionError(errno.EACCES, "a recording may not refer to other files")


def _audio_track(container: InputContainer) -> AudioStream:
    for stream in container.streams.audio:
        if stream.codec_context is not None:
            stream.codec_context.thread_count = 1
            return stream
    if container.streams.audio:
        raise Refusal("NOT_A_RECORDING", f"the codec of the recording's audio track is not known; {_ACCEPTED}")
    if container.streams.video:
        raise Refusal("NO_AUDIO", "the recording has no audio track, only video; send one with sound")
    raise Refusal("NOT_A_RECORDING", _UNREADABLE)


def _frames(container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame | None]:
    """All frames of ``stream``, with ``None`` for each packet that is damaged; ends where the container breaks off."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except MemoryError:
            raise
        except (StopIteration, av.error.FFmpegError):
            return
        except IndexError:  # of PyAV at the end, for tracks that were not there at the beginning: all ours has come
            return
        try:
            yield from (frame if frame.sample_rate > 0 else None for frame in packet.decode())
        except MemoryError:
            raise
        except av.error.FFmpegError:
            yield None


def _seconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / av.time_base


def _timestamp(frame: AudioFrame) -> float | None:
    if frame.pts is None or frame.time_base is None:
        return None
    return frame.pts * float(frame.time_base)


def _say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
