"""The audio tracks of a recording: their names, and which of them are used.

Audio tracks are counted from 1, as players and editors count them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from careca_gateway.decoding.source import ACCEPTED, RecordingError, not_a_recording

AUTO, ALL, EACH = "auto", "all", "each"
"""One track, chosen automatically; all tracks, mixed; all tracks, each with its own speaker."""

MAX_TITLE_CHARACTERS = 40
MAX_NAMED_TRACKS = 8
"""Limits for messages: the names come from the recording."""


@dataclass(frozen=True, slots=True)
class Track:
    """One audio track."""

    number: int
    stream: AudioStream
    default: bool
    """Whether the recording marks it as the default track."""

    @property
    def readable(self) -> bool:
        """Whether its codec is known."""
        return self.stream.codec_context is not None

    @property
    def name(self) -> str:
        """The track's name in messages, such as ``track 2 ("Microphone", en, aac)``."""
        title = printable(self.stream.metadata.get("title") or self.stream.metadata.get("handler_name") or "")
        language = printable(self.stream.metadata.get("language", ""))
        parts = [
            f'"{title}"' if title and title not in _DEFAULT_TITLES else "",
            "" if language == "und" else language,
            self.stream.codec_context.name if self.stream.codec_context is not None else "unknown codec",
        ]
        return f"track {self.number} ({', '.join(filter(None, parts))})"


_DEFAULT_TITLES = frozenset({"SoundHandler", "Core Media Audio", "SoundHandle", "Apple Sound Media Handler"})
"""Titles without information: programs write them to every file."""


def printable(text: str) -> str:
    """Returns ``text`` as one short line without control characters, which a terminal or a log could interpret."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text[: 4 * MAX_TITLE_CHARACTERS]).split())
    line = line.replace('"', "'")
    return line if len(line) <= MAX_TITLE_CHARACTERS else line[: MAX_TITLE_CHARACTERS - 3].rstrip() + "..."


def join_names(tracks: Sequence[Track]) -> str:
    """Returns the names of ``tracks``, as many as a message has room for."""
    shown = [track.name for track in tracks[:MAX_NAMED_TRACKS]]
    more = len(tracks) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def list_tracks(container: InputContainer) -> list[Track]:
    """Returns all audio tracks. Raises ``RecordingError`` if there is none."""
    tracks = [
        Track(number, stream, bool(stream.disposition & Disposition.default))
        for number, stream in enumerate(container.streams.audio, start=1)
    ]
    if not tracks and container.streams.video:
        raise RecordingError("NO_AUDIO", "the recording has no audio track, only video; send one with sound")
    if not tracks:
        raise not_a_recording()
    if not any(track.readable for track in tracks):
        raise RecordingError("NOT_A_RECORDING", f"the codec of the recording's audio track is not known; {ACCEPTED}")
    return tracks


def readable_tracks(tracks: Sequence[Track]) -> list[Track]:
    """Returns the tracks that can be read, in order of preference: the default track first, then by number."""
    return sorted((track for track in tracks if track.readable), key=lambda track: not track.default)


def select_tracks(tracks: Sequence[Track], choice: str | int, most: int) -> list[Track]:
    """Returns the tracks that ``choice`` selects: one by its number, or all of them, but at most ``most``.

    Raises ``RecordingError``.
    """
    count = len(tracks)
    if isinstance(choice, int):
        if choice > count:
            have = "1 audio track" if count == 1 else f"{count} audio tracks"
            raise RecordingError(
                "NO_SUCH_AUDIO_TRACK",
                f"there is no audio track {choice}: the recording has {have}: {join_names(tracks)}",
            )
        found = [tracks[choice - 1]]
    else:
        found = list(tracks)
    if choice == EACH and count == 1:
        raise RecordingError(
            "SINGLE_AUDIO_TRACK",
            f"the recording has a single audio track, which cannot be several speakers'; {SINGLE_TRACK_HINT}",
        )
    if len(found) > most:
        raise RecordingError(
            "TOO_MANY_AUDIO_TRACKS",
            f"the recording has {count} audio tracks; at most {most} can be used together; {SINGLE_TRACK_HINT}",
        )
    for track in found:
        if not track.readable:
            raise RecordingError(
                "UNKNOWN_AUDIO_TRACK_CODEC", f"the codec of audio {track.name} is not known; {SINGLE_TRACK_HINT}"
            )
    return found


SINGLE_TRACK_HINT = "leave audio_track out to use one track, or name one by its number"
"""What to do instead of using several tracks."""
