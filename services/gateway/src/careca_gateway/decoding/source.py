"""Opens the recording with FFmpeg, without anything that it could refer to, and reads its packets."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable, Iterator
from typing import NoReturn

import av
import av.audio.codeccontext
import av.error
import av.subtitles.codeccontext
import av.subtitles.stream
import av.video.codeccontext
import av.video.stream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

# PyAV imports the modules of a kind of track when it first meets one. In the sandbox nothing can be opened by then, so
# all of them are imported above.

ACCEPTED = "any file that FFmpeg reads is accepted, such as WAV, MP3, M4A, FLAC, OGG, WebM, MP4 or MKV"
"""What to send instead of an unreadable file."""

_BUFFER_BYTES = 1 << 20

_STREAMED_FORMATS = ("matroska,webm", "ogg", "mov,mp4,m4a,3gp,3g2,mj2", "mp3", "aac", "flac", "wav")
"""Formats whose beginning says all that is needed to decode the rest."""

_STREAM_BUFFER_BYTES = 4096
"""FFmpeg waits until so much has arrived: a sixth of a second of the sound of a browser."""

_REFERRING_FORMATS = frozenset(
    {
        *("concat", "dash", "hls", "image2", "image2pipe", "imf", "lavfi", "mlv", "rtp", "rtsp", "sap", "sdp"),
        *("vobsub", "alsa", "fbdev", "kmsgrab", "oss", "video4linux2,v4l2", "x11grab"),
    }
)
"""Formats that refer to other files, addresses or devices. An upload must be the recording itself."""


class RecordingError(Exception):
    """The recording cannot be used. ``reason`` is for programs, the message for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def not_a_recording() -> RecordingError:
    """Returns the error for bytes that are not a recording."""
    return RecordingError(
        "NOT_A_RECORDING", f"the recording cannot be read: it is damaged or not a recording; {ACCEPTED}"
    )


class RecordingFile(io.FileIO):
    """The recording as FFmpeg reads it. An impossible seek returns -1, which FFmpeg can handle."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Returns the new position, or -1."""
        try:
            return super().seek(offset, whence)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOVERFLOW):
                raise
            return -1


class StreamedBytes(io.RawIOBase):
    """Bytes that arrive over time through a pipe, as FFmpeg reads them."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def readable(self) -> bool:
        """Returns true."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Waits for bytes. Returns what has arrived, at most ``size``; nothing at the end."""
        return os.read(self._descriptor, size)


def open_recording(recording: io.RawIOBase) -> InputContainer:
    """Opens ``recording`` from its beginning, in any container format that does not refer to other files."""
    recording.seek(0)
    formats = av.formats_available - _REFERRING_FORMATS
    return _open(recording, formats, buffer_bytes=_BUFFER_BYTES, options={})


def open_stream(stream: StreamedBytes) -> InputContainer:
    """Opens a recording that is still being made, as soon as its first bytes have arrived."""
    options = {"probesize": str(_STREAM_BUFFER_BYTES), "analyzeduration": "0"}
    return _open(stream, _STREAMED_FORMATS, buffer_bytes=_STREAM_BUFFER_BYTES, options=options)


def _open(
    source: io.RawIOBase, formats: Iterable[str], *, buffer_bytes: int, options: dict[str, str]
) -> InputContainer:
    allowed = {
        "format_whitelist": ",".join(sorted(formats)),
        "protocol_whitelist": "",
        "codec_whitelist": _sound_decoders(),
    }
    try:
        return av.open(
            source,
            mode="r",
            container_options=allowed | options,
            metadata_errors="replace",
            buffer_size=buffer_bytes,
            io_open=_refuse_reference,
        )
    except PermissionError:
        raise not_a_recording() from None


def packets(container: InputContainer) -> Iterator[Packet[Stream]]:
    """Yields all packets of all tracks, including video, as far as they can be read."""
    demuxed = container.demux(list(container.streams))
    while True:
        try:
            yield next(demuxed)
        except MemoryError:
            raise
        except (StopIteration, av.error.FFmpegError):
            return
        except (
            IndexError
        ):  # PyAV raises it at the end for tracks that appeared later; all packets of our tracks were read
            return


def _sound_decoders() -> str:
    """Returns the names of all audio decoders. Decoders of video and subtitles are never run."""
    decoders = {av.Codec(name, "r").name for name in av.codecs_available if _decodes_sound(name)}
    return ",".join(sorted(decoders))


def _decodes_sound(name: str) -> bool:
    try:
        return bool(av.Codec(name, "r").type == "audio")
    except av.codec.codec.UnknownCodecError:  # one that only encodes
        return False


def _refuse_reference(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    """Replaces FFmpeg's function that opens what a file refers to."""
    raise PermissionError(errno.EACCES, "a recording may not refer to other files")
