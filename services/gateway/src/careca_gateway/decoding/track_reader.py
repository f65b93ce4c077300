"""One track read: its packets decoded into a writer, each frame at its time, and what could not be decoded."""

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
from careca_gateway.decoding.source import unreadable
from careca_gateway.decoding.tracks import Track

_NEAR_SECONDS = 5.0
"""Damage no farther apart than this is told as one place."""

_MAX_PLACES = 100

_EXACT_WITHIN = {"flac": 0.005, "ogg": GAP_SECONDS}
"""Formats that never have a hole. Where their timestamps jump by more than so many seconds something was lost: FFmpeg
looks for the next good part of a damaged file without a word."""

_SKIPPED_BYTES = 256
"""What Matroska has at most between two packets. Where its timestamps jump and more bytes were passed over, something
was lost; where none were, there never was any sound."""


@dataclass(slots=True)
class Place:
    """A place in a recording, in seconds, and in how many parts of it there was damage."""

    start: float
    end: float
    parts: int = 1


@dataclass(slots=True)
class Damage:
    """What could not be decoded, by place."""

    places: list[Place] = field(default_factory=list)

    @property
    def parts(self) -> int:
        """How many parts there were, mostly packets."""
        return sum(place.parts for place in self.places)

    def add(self, start: float, end: float) -> None:
        """One more part, which was there."""
        if self.places and (start - self.places[-1].end <= _NEAR_SECONDS or len(self.places) == _MAX_PLACES):
            self.places[-1].end = max(self.places[-1].end, end)
            self.places[-1].parts += 1
        else:
            self.places.append(Place(start, end))

    def without_last(self, parts: int) -> Damage:
        """This damage but for the last parts, which are all at the end of the recording."""
        places = [Place(place.start, place.end, place.parts) for place in self.places]
        if places:
            places[-1].parts -= parts
        return Damage([place for place in places if place.parts > 0])


class TrackReader:
    """Decodes the packets of one track into a writer; holes are filled with silence.

    Timestamps keep what follows a damaged or missing part in its place.
    """

    def __init__(self, track: Track, writer: PcmWriter, container: InputContainer) -> None:
        self.track = track
        self.writer = writer
        self.damage = Damage()
        self.position = 0.0
        """Where the track has come to, in seconds from the beginning of the recording."""
        self.trailing = 0
        """Damaged parts after the last good one."""
        self._timeline = Timeline(None if container.start_time is None else container.start_time / av.time_base)
        self._frames = 0
        self._missing = 0.0
        """How far the track is behind its timestamps."""
        self._exact_within = _EXACT_WITHIN.get(container.format.name, math.inf)
        self._of_matroska = container.format.name == "matroska,webm"
        self._passed_over = False
        """Whether bytes were passed over since the last good frame."""
        track.stream.codec_context.thread_count = 1

    @property
    def empty(self) -> bool:
        """Whether there was nothing to decode."""
        return not self._frames

    @property
    def usable(self) -> bool:
        """Whether there has been no more damage than audio."""
        return self.damage.parts <= self._frames

    def check(self) -> None:
        """Raises ``RecordingError`` where there is more damage than audio."""
        if not self.usable:
            raise unreadable()

    def read(self, packet: Packet[Stream], passed_over: int = 0) -> None:
        """Decodes one packet, before which so many bytes were passed over; a damaged one is left out."""
        self._passed_over = self._passed_over or (passed_over > _SKIPPED_BYTES and self._of_matroska)
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
        elif self._frames and lost > (GAP_SECONDS if self._passed_over else self._exact_within):
            self.damage.add(self.position, self.position + lost)
        self._passed_over = False
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
