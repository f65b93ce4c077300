"""Reads the recording once, and again if necessary.

Usually once is enough. If there are several tracks, the first pass finds out which one to use: it decodes all tracks
until the preferred one has a sound. That needs no memory, however long the tracks are, and finds sounds that come late.
A very quiet recording is decoded again with amplification, because the gain is the same for the whole recording and
depends on all of it.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import av
from av.container import InputContainer

from careca_gateway.decoding import mixing
from careca_gateway.decoding.level import LevelMeter
from careca_gateway.decoding.mixing import TrackFile
from careca_gateway.decoding.outputs import ChannelFiles, MixedFile, NullOutput, Output, Written
from careca_gateway.decoding.pcm import PcmWriter
from careca_gateway.decoding.source import RecordingError, open_recording, packets
from careca_gateway.decoding.track_reader import TrackReader
from careca_gateway.decoding.tracks import ALL, AUTO, EACH, Track, list_tracks, readable_tracks, select_tracks
from careca_gateway.decoding.truncation import TruncationDetector

_PROGRESS_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """What to decode."""

    track: str | int
    """``AUTO``, ``ALL``, ``EACH``, or a number."""
    separate: bool
    """Whether each channel gets its own file."""
    max_samples: int
    """The maximum length of the audio, for each file."""


@dataclass(frozen=True, slots=True)
class TrackChoice:
    """The track that was chosen, and the others."""

    taken: Track
    silent: Sequence[Track]
    """Tracks that would have been preferred, but are silent."""
    others: Sequence[Track]
    """All other tracks."""


@dataclass(frozen=True, slots=True)
class DecodedRecording:
    """What was decoded and measured."""

    written: Written
    readers: Sequence[TrackReader]
    """The readers of the tracks that were used."""
    choice: TrackChoice | None
    """Set if one of several tracks was chosen automatically."""
    levels: Sequence[LevelMeter]
    """The levels of the tracks that were used, before amplification."""
    gain_bits: int
    """By how many bits all samples were amplified."""
    end: float
    """The end of the recording, in seconds."""
    missing: float
    """The seconds that are missing after the end; infinity if the number is unknown."""


class Progress:
    """Reports the progress if the length is known. It never decreases."""

    def __init__(self, emit: Callable[[float], None]) -> None:
        self._emit = emit
        self._next = self._before = self._now = 0.0

    @property
    def due(self) -> bool:
        """Whether the last report was a while ago."""
        return time.monotonic() >= self._next

    def begin_pass(self) -> None:
        """A new pass over the recording begins."""
        self._before = self._now
        self._next = time.monotonic() + _PROGRESS_SECONDS

    def report(self, position: float, duration: float | None, *, last: bool) -> None:
        """Reports that ``position`` seconds of ``duration`` are done, if the duration is known.

        Unless this is the ``last`` pass, half of the rest is reserved for another one.
        """
        self._next = time.monotonic() + _PROGRESS_SECONDS
        if duration:
            share = min(position / duration, 1.0) * (1.0 if last else 0.5)
            self._now = max(self._now, self._before + share * (1.0 - self._before))
            self._emit(round(self._now, 3))


def decode(
    source: io.RawIOBase, files: Sequence[BinaryIO], options: DecodeOptions, progress: Progress
) -> DecodedRecording:
    """Decodes ``source`` to ``files``: to one, or to the first of them if channels or tracks are separate.

    Raises ``RecordingError``.
    """
    choice: TrackChoice | None = None
    reading = _Reading(source, files, options, progress)
    with open_recording(source) as container:
        tracks = list_tracks(container)
        readable = readable_tracks(tracks)
        if options.track != AUTO:
            reading.read(container, select_tracks(tracks, options.track, len(files)))
        elif len(tracks) == 1:
            reading.read(container, readable)
        else:
            choice = _choose(container, tracks, readable, progress)
    if choice:
        with open_recording(source) as container:
            reading.read(container, [list_tracks(container)[choice.taken.number - 1]])
    if gain_bits := reading.gain_bits:
        numbers = [reader.track.number for reader in reading.readers]
        with open_recording(source) as container:
            tracks = list_tracks(container)
            reading.read(container, [tracks[number - 1] for number in numbers], gain_bits)
    return DecodedRecording(
        reading.finish(), reading.readers, choice, reading.levels, gain_bits, reading.end, reading.missing
    )


def _choose(
    container: InputContainer, tracks: Sequence[Track], readable: Sequence[Track], progress: Progress
) -> TrackChoice:
    """Returns the first of the ``readable`` tracks that is not silent; the very first if all are silent."""
    listeners = [TrackReader(track, PcmWriter(NullOutput(), None), container) for track in readable]
    listening = {listener.track.stream.index: listener for listener in listeners}
    duration = seconds(container.duration)
    progress.begin_pass()
    for packet in packets(container):
        if listener := listening.get(packet.stream.index):
            listener.read(packet)
            if listener is listeners[0] and progress.due:
                progress.report(listener.position, duration, last=False)
            if listener.writer.level.has_sound and listener.usable:
                del listening[packet.stream.index]
                if listener is listeners[0]:
                    break
    first = next(
        (number for number, listener in enumerate(listeners) if listener.usable and not listener.writer.level.silent),
        0,
    )
    silent = readable[:first]
    taken = readable[first]
    return TrackChoice(taken, silent, [track for track in tracks if track not in (taken, *silent)])


class _Reading:
    """Reads the recording to the files, from the beginning, in one or more passes."""

    def __init__(
        self, source: io.RawIOBase, files: Sequence[BinaryIO], options: DecodeOptions, progress: Progress
    ) -> None:
        self.readers: list[TrackReader] = []
        self.levels: list[LevelMeter] = []
        """Of the readers, before amplification."""
        self.end = 0.0
        self.missing = 0.0
        self._source = source
        self._files = files
        self._options = options
        self._progress = progress
        self._output: MixedFile | ChannelFiles | list[TrackFile] = []

    @property
    def gain_bits(self) -> int:
        """By how many bits all samples should be amplified, as far as has been read; 0 if that gains nothing."""
        audible = [level for level in self.levels if not level.silent]
        if not audible or not any(reader.writer.fine for reader in self.readers):
            return 0
        return min(level.gain_bits for level in audible)

    def read(self, container: InputContainer, tracks: Sequence[Track], gain_bits: int = 0) -> None:
        """Reads ``tracks``, amplified by ``gain_bits``. Raises ``RecordingError``."""
        for file in self._files:
            if file.tell():
                file.seek(0)
                file.truncate()
        self._output = self._new_output(len(tracks))
        outputs: list[Output] = [*self._output] if isinstance(self._output, list) else [self._output]
        self.readers = [
            TrackReader(track, PcmWriter(output, self._options.max_samples, gain_bits=gain_bits), container)
            for track, output in zip(tracks, outputs, strict=True)
        ]
        if not gain_bits:
            self.levels = [reader.writer.level for reader in self.readers]
        detector = TruncationDetector(self._source)
        duration = seconds(container.duration)
        readers = {reader.track.stream.index: reader for reader in self.readers}
        self._progress.begin_pass()
        for packet in packets(container):
            skipped = detector.observe(packet)
            if reader := readers.get(packet.stream.index):
                reader.read(packet, skipped)
                if self._progress.due:
                    self._progress.report(reader.position, duration, last=bool(gain_bits) or not self.gain_bits)
        for reader in self.readers:
            reader.check()
            reader.writer.flush()
        if all(reader.empty for reader in self.readers):
            raise RecordingError("EMPTY_AUDIO", "the recording's audio track is empty: it has no samples")
        # If there are several tracks, the one with the most missing seconds counts.
        self.missing, self.end = max(
            (detector.missing(container, reader.track.stream, reader.position), reader.position)
            for reader in self.readers
        )

    def finish(self) -> Written:
        """Returns what is in the files. Raises ``RecordingError`` if several are all the same."""
        if isinstance(self._output, list):
            return self._finish_tracks(self._output)
        return self._output.finish()

    def _finish_tracks(self, files: list[TrackFile]) -> Written:
        if self._options.track == EACH:
            return mixing.separate(files)
        audible = [file for file, level in zip(files, self.levels, strict=True) if not level.silent]
        return mixing.mix(files, audible or files)

    def _new_output(self, tracks: int) -> MixedFile | ChannelFiles | list[TrackFile]:
        if self._options.track in (ALL, EACH):
            return [TrackFile(file) for file in self._files[:tracks]]
        return ChannelFiles(self._files) if self._options.separate else MixedFile(self._files[0])


def seconds(microseconds: int | None) -> float | None:
    """Converts FFmpeg's time of a container to seconds."""
    return None if microseconds is None else microseconds / av.time_base
