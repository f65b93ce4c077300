"""Reads one track: decodes its packets, keeps each frame at its time, and records damage."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import cast

import av
import av.error
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from careca_gateway.decoding.pcm import GAP_SECONDS, PcmWriter, Timeline
from careca_gateway.decoding.source import not_a_recording
from careca_gateway.decoding.tracks import Track

_SAME_PLACE_SECONDS = 5.0
"""Damage that is no farther apart than this is reported as one place."""

_MAX_PLACES = 100

_MAX_JUMP_SECONDS = {"flac": 0.005, "ogg": GAP_SECONDS}
"""Formats that never have holes. If their timestamps jump by more than this, something was lost: FFmpeg silently skips
to the next good part of a damaged file."""

_SKIPPED_BYTES = 256
"""The maximum that Matroska has between two packets. If its timestamps jump and more bytes were skipped, something was
lost; if no bytes were skipped, there never was a sound."""


@dataclass(slots=True)
class DamagedSpan:
    """A time span, in seconds, with the number of its damaged parts."""

    start: float
    end: float
    parts: int = 1


@dataclass(slots=True)
class Damage:
    """What could not be decoded, by time."""

    places: list[DamagedSpan] = field(default_factory=list)

    @property
    def parts(self) -> int:
        """The number of damaged parts, which are usually packets."""
        return sum(place.parts for place in self.places)

    def add(self, start: float, end: float) -> None:
        """Adds a damaged part."""
        if self.places and (start - self.places[-1].end <= _SAME_PLACE_SECONDS or len(self.places) == _MAX_PLACES):
            self.places[-1].end = max(self.places[-1].end, end)
            self.places[-1].parts += 1
        else:
            self.places.append(DamagedSpan(start, end))

    def without_last(self, parts: int) -> Damage:
        """Returns this damage without the last parts, which are all at the end of the recording."""
        places = [DamagedSpan(place.start, place.end, place.parts) for place in self.places]
        if places:
            places[-1].parts -= parts
        return Damage([place for place in places if place.parts > 0])


class TrackReader:
    """Decodes the packets of one track to a writer. Holes are filled with silence.

    Timestamps keep what follows a damaged or missing part at its time.
    """

    def __init__(self, track: Track, writer: PcmWriter, container: InputContainer) -> None:
        self.track = track
        self.writer = writer
        self.damage = Damage()
        self.position = 0.0
        """How much of the track is read, in seconds from the beginning of the recording."""
        self.trailing = 0
        """The number of damaged parts after the last good one."""
        self._timeline = Timeline(None if container.start_time is None else container.start_time / av.time_base)
        self._frames = 0
        self._missing = 0.0
        """How far the track is behind its timestamps."""
        self._max_jump = _MAX_JUMP_SECONDS.get(container.format.name, math.inf)
        self._is_matroska = container.format.name == "matroska,webm"
        self._skipped = False
        """Whether bytes were skipped since the last good frame."""
        track.stream.codec_context.thread_count = 1

    @property
    def empty(self) -> bool:
        """Whether there was nothing to decode."""
        return not self._frames

    @property
    def usable(self) -> bool:
        """Whether there is no more damage than audio so far."""
        return self.damage.parts <= self._frames

    def check(self) -> None:
        """Raises ``RecordingError`` if there is more damage than audio."""
        if not self.usable:
            raise not_a_recording()

    def read(self, packet: Packet[Stream], skipped: int = 0) -> None:
        """Decodes one packet, before which ``skipped`` bytes were skipped. A damaged packet is omitted."""
        self._skipped = self._skipped or (skipped > _SKIPPED_BYTES and self._is_matroska)
        try:
            frames = cast("list[AudioFrame]", packet.decode())
        except MemoryError:
            raise
        except av.error.FFmpegError:
            self._skip()
            return
        for frame in frames:
            if frame.sample_rate > 0:
                self._write(frame)
            else:
                self._skip()

    def _skip(self) -> None:
        self.damage.add(self.position, self.position)
        self.trailing += 1

    def _write(self, frame: AudioFrame) -> None:
        if not self._frames:
            self.writer.begin(frame.layout)
        missing = self._timeline.missing(_timestamp(frame), self.position)
        lost, self._missing = missing - self._missing, missing
        if self.trailing:
            self.damage.places[-1].end = self.position + max(lost, 0.0)
        elif self._frames and lost > (GAP_SECONDS if self._skipped else self._max_jump):
            self.damage.add(self.position, self.position + lost)
        self._skipped = False
        if missing > GAP_SECONDS:
            self.position += missing
            self._missing = 0.0
            self.writer.pad(self.position)
        self.writer.write(frame)
        self._frames += 1
        self.trailing = 0
        self.position += frame.samples / frame.sample_rate


def _timestamp(frame: AudioFrame) -> float | None:
    if frame.pts is None or frame.time_base is None:
        return None
    return frame.pts * float(frame.time_base)
