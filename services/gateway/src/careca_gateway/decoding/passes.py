"""The recording, read once, and again where the first time shows that it has to be.

Mostly once is enough. Which of several tracks to take is found out first: all are listened to, each until it is heard,
and all only until the preferred one is. That takes no memory however long the tracks are, and misses nothing that is
said late. What turns out to be very quiet is decoded again with every sample raised: the gain depends on all of the
recording, and is the same for all of it.
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
from careca_gateway.decoding.level import Level
from careca_gateway.decoding.mixing import TrackFile
from careca_gateway.decoding.outputs import ChannelFiles, MixedFile, NullOutput, Output, Written
from careca_gateway.decoding.pcm import PcmWriter
from careca_gateway.decoding.source import RecordingError, open_recording, packets
from careca_gateway.decoding.track_reader import TrackReader
from careca_gateway.decoding.tracks import ALL, AUTO, EACH, Track, chosen, list_tracks, preferred
from careca_gateway.decoding.truncation import TruncationDetector

_PROGRESS_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for."""

    track: str | int
    """``AUTO``, ``ALL``, ``EACH``, or a number."""
    separate: bool
    """Whether each channel gets a file of its own."""
    max_samples: int
    """Length of the longest audio that is accepted, per file."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which track was taken, and what else there was."""

    taken: Track
    silent: Sequence[Track]
    """Those that would have come first."""
    others: Sequence[Track]
    """All others."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What was found."""

    written: Written
    readers: Sequence[TrackReader]
    """Of the tracks that were used."""
    choice: Choice | None
    """Where one of several tracks was chosen here."""
    levels: Sequence[Level]
    """Of these tracks, before anything was raised."""
    raised_by: int
    """By how many bits all samples were raised."""
    end: float
    """Where the recording ends, in seconds."""
    missing: float
    """Seconds that are missing after it; infinity where it is not known how many."""


class Progress:
    """Says how far the work has come, where the length is known. Never goes back."""

    def __init__(self, say: Callable[[float], None]) -> None:
        self._say = say
        self._next = self._before = self._now = 0.0

    @property
    def due(self) -> bool:
        """Whether nothing was said for a moment."""
        return time.monotonic() >= self._next

    def begin_pass(self) -> None:
        """The recording is read from its beginning."""
        self._before = self._now
        self._next = time.monotonic() + _PROGRESS_SECONDS

    def report(self, position: float, duration: float | None, *, last: bool) -> None:
        """Says that ``position`` seconds of ``duration`` are done, where that is known.

        Without ``last`` the recording may have to be read again, for which half is left.
        """
        self._next = time.monotonic() + _PROGRESS_SECONDS
        if duration:
            share = min(position / duration, 1.0) * (1.0 if last else 0.5)
            self._now = max(self._now, self._before + share * (1.0 - self._before))
            self._say(round(self._now, 3))


def decode(source: io.RawIOBase, files: Sequence[BinaryIO], wanted: Wanted, progress: Progress) -> Heard:
    """Decodes ``source`` into ``files``: one, or the first of them where channels or tracks are separate.

    Raises ``RecordingError``.
    """
    choice: Choice | None = None
    one = _Pass(source, files, wanted, progress)
    with open_recording(source) as container:
        tracks = list_tracks(container)
        readable = preferred(tracks)
        if wanted.track != AUTO:
            one.read(container, chosen(tracks, wanted.track, len(files)))
        elif len(tracks) == 1:
            one.read(container, readable)
        else:
            choice = _choose(container, tracks, readable, progress)
    if choice:
        with open_recording(source) as container:
            one.read(container, [list_tracks(container)[choice.taken.number - 1]])
    if raise_by := one.raise_by:
        numbers = [reader.track.number for reader in one.readers]
        with open_recording(source) as container:
            tracks = list_tracks(container)
            one.read(container, [tracks[number - 1] for number in numbers], raise_by)
    return Heard(one.finish(), one.readers, choice, one.levels, raise_by, one.end, one.missing)


def _choose(
    container: InputContainer, tracks: Sequence[Track], readable: Sequence[Track], progress: Progress
) -> Choice:
    """The first of the tracks that are ``readable`` that is not silent; the very first where all are."""
    listeners = [TrackReader(track, PcmWriter(NullOutput(), None), container) for track in readable]
    listening = {listener.track.stream.index: listener for listener in listeners}
    duration = seconds(container.duration)
    progress.begin_pass()
    for packet in packets(container):
        if listener := listening.get(packet.stream.index):
            listener.read(packet)
            if listener is listeners[0] and progress.due:
                progress.report(listener.position, duration, last=False)
            if listener.writer.level.sounding and listener.usable:
                del listening[packet.stream.index]
                if listener is listeners[0]:
                    break
    heard = next(
        (number for number, listener in enumerate(listeners) if listener.usable and not listener.writer.level.silent),
        0,
    )
    silent = readable[:heard]
    taken = readable[heard]
    return Choice(taken, silent, [track for track in tracks if track not in (taken, *silent)])


class _Pass:
    """The recording read into the files, from their beginning, as often as it is asked for."""

    def __init__(self, source: io.RawIOBase, files: Sequence[BinaryIO], wanted: Wanted, progress: Progress) -> None:
        self.readers: list[TrackReader] = []
        self.levels: list[Level] = []
        """Of the readers, before anything was raised."""
        self.end = 0.0
        self.missing = 0.0
        self._source = source
        self._files = files
        self._wanted = wanted
        self._progress = progress
        self._output: MixedFile | ChannelFiles | list[TrackFile] = []

    @property
    def raise_by(self) -> int:
        """By how many bits all samples should be raised, as far as has been read; 0 where nothing is gained."""
        sounding = [level for level in self.levels if not level.silent]
        if not sounding or not any(reader.writer.fine for reader in self.readers):
            return 0
        return min(level.raise_by for level in sounding)

    def read(self, container: InputContainer, tracks: Sequence[Track], raise_by: int = 0) -> None:
        """Reads ``tracks``, with all samples raised by so many bits. Raises ``RecordingError``."""
        for file in self._files:
            if file.tell():
                file.seek(0)
                file.truncate()
        self._output = self._new_output(len(tracks))
        outputs: list[Output] = [*self._output] if isinstance(self._output, list) else [self._output]
        self.readers = [
            TrackReader(track, PcmWriter(output, self._wanted.max_samples, raise_by=raise_by), container)
            for track, output in zip(tracks, outputs, strict=True)
        ]
        if not raise_by:
            self.levels = [reader.writer.level for reader in self.readers]
        ending = TruncationDetector(self._source)
        duration = seconds(container.duration)
        readers = {reader.track.stream.index: reader for reader in self.readers}
        self._progress.begin_pass()
        for packet in packets(container):
            passed_over = ending.see(packet)
            if reader := readers.get(packet.stream.index):
                reader.read(packet, passed_over)
                if self._progress.due:
                    self._progress.report(reader.position, duration, last=bool(raise_by) or not self.raise_by)
        for reader in self.readers:
            reader.check()
            reader.writer.flush()
        if all(reader.empty for reader in self.readers):
            raise RecordingError("EMPTY_AUDIO", "the recording's audio track is empty: it has no samples")
        # Of several tracks the one counts of which most is missing.
        self.missing, self.end = max(
            (ending.missing(container, reader.track.stream, reader.position), reader.position)
            for reader in self.readers
        )

    def finish(self) -> Written:
        """What is in the files. Raises ``RecordingError`` where several are all the same."""
        if isinstance(self._output, list):
            return self._finish_tracks(self._output)
        return self._output.finish()

    def _finish_tracks(self, files: list[TrackFile]) -> Written:
        if self._wanted.track == EACH:
            return mixing.separate(files)
        sounding = [file for file, level in zip(files, self.levels, strict=True) if not level.silent]
        return mixing.mix(files, sounding or files)

    def _new_output(self, tracks: int) -> MixedFile | ChannelFiles | list[TrackFile]:
        if self._wanted.track in (ALL, EACH):
            return [TrackFile(file) for file in self._files[:tracks]]
        return ChannelFiles(self._files) if self._wanted.separate else MixedFile(self._files[0])


def seconds(microseconds: int | None) -> float | None:
    """What FFmpeg gives of a container, in seconds."""
    return None if microseconds is None else microseconds / av.time_base
