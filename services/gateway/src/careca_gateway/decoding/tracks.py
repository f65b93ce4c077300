"""The audio tracks of a recording: what they are called, and which of them are used.

Tracks are counted from 1, audio tracks only, as players and editors count them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from careca_gateway.decoding.source import ACCEPTED, RecordingError, unreadable

AUTO, ALL, EACH = "auto", "all", "each"
"""One track, chosen here; all of them, mixed; all of them, each a speaker's own."""

MAX_TITLE_CHARACTERS = 40
MAX_NAMED_TRACKS = 8
"""Bounds of what a message tells: the names come from whoever made the recording."""


@dataclass(frozen=True, slots=True)
class Track:
    """One audio track."""

    number: int
    stream: AudioStream
    default: bool
    """Whether it is marked as the one to play where nobody chooses."""

    @property
    def readable(self) -> bool:
        """Whether its codec is known."""
        return self.stream.codec_context is not None

    @property
    def name(self) -> str:
        """What to call it in a message, such as ``track 2 ("Microphone", en, aac)``."""
        title = printable(self.stream.metadata.get("title") or self.stream.metadata.get("handler_name") or "")
        language = printable(self.stream.metadata.get("language", ""))
        parts = [
            f'"{title}"' if title and title not in _MADE_BY_MUXERS else "",
            "" if language == "und" else language,
            self.stream.codec_context.name if self.stream.codec_context is not None else "unknown codec",
        ]
        return f"track {self.number} ({', '.join(filter(None, parts))})"


_MADE_BY_MUXERS = frozenset({"SoundHandler", "Core Media Audio", "SoundHandle", "Apple Sound Media Handler"})
"""Titles that tell nothing: programs write them into every file."""


def printable(text: str) -> str:
    """``text`` in one line without anything that a terminal or a log would take for more than letters, and short."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text[: 4 * MAX_TITLE_CHARACTERS]).split())
    line = line.replace('"', "'")
    return line if len(line) <= MAX_TITLE_CHARACTERS else line[: MAX_TITLE_CHARACTERS - 3].rstrip() + "..."


def names(tracks: Sequence[Track]) -> str:
    """The names of ``tracks``, as far as a message has room for them."""
    shown = [track.name for track in tracks[:MAX_NAMED_TRACKS]]
    more = len(tracks) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def list_tracks(container: InputContainer) -> list[Track]:
    """All audio tracks. Raises ``RecordingError`` where there is none."""
    tracks = [
        Track(number, stream, bool(stream.disposition & Disposition.default))
        for number, stream in enumerate(container.streams.audio, start=1)
    ]
    if not tracks and container.streams.video:
        raise RecordingError("NO_AUDIO", "the recording has no audio track, only video; send one with sound")
    if not tracks:
        raise unreadable()
    if not any(track.readable for track in tracks):
        raise RecordingError("NOT_A_RECORDING", f"the codec of the recording's audio track is not known; {ACCEPTED}")
    return tracks


def preferred(tracks: Sequence[Track]) -> list[Track]:
    """The tracks that can be read, the one to take where it is not silent first: marked as default, else the first."""
    return sorted((track for track in tracks if track.readable), key=lambda track: not track.default)


def chosen(tracks: Sequence[Track], choice: str | int, most: int) -> list[Track]:
    """The tracks that ``choice`` names: one by its number, or all of them, of which there may be at most ``most``.

    Raises ``RecordingError``.
    """
    count = len(tracks)
    if isinstance(choice, int):
        if choice > count:
            have = "1 audio track" if count == 1 else f"{count} audio tracks"
            raise RecordingError(
                "NO_SUCH_AUDIO_TRACK",
                f"there is no audio track {choice}: the recording has {have}: {names(tracks)}",
            )
        found = [tracks[choice - 1]]
    else:
        found = list(tracks)
    if choice == EACH and count == 1:
        raise RecordingError(
            "SINGLE_AUDIO_TRACK", f"the recording has a single audio track, which cannot be several speakers'; {ONE}"
        )
    if len(found) > most:
        raise RecordingError(
            "TOO_MANY_AUDIO_TRACKS",
            f"the recording has {count} audio tracks; at most {most} can be used together; {ONE}",
        )
    for track in found:
        if not track.readable:
            raise RecordingError("UNKNOWN_AUDIO_TRACK_CODEC", f"the codec of audio {track.name} is not known; {ONE}")
    return found


ONE = "leave audio_track out to use one track, or name one by its number"
"""What to do instead of using several tracks."""
