"""What a person should know of a recording that was decoded: see docs/notices.md and docs/decoding.md."""

from __future__ import annotations

import math

from careca.formatting import format_time
from careca_gateway.decoding.level import DB_PER_BIT, FULL_BITS
from careca_gateway.decoding.passes import Choice, Heard
from careca_gateway.decoding.track_reader import Damage, Place
from careca_gateway.decoding.tracks import names

# As careca.types.NoticeCode has them, which is not imported: it would make the start of each process longer.
TRUNCATED = "TRUNCATED"
DAMAGED = "DAMAGED"
AUDIO_TRACK_CHOSEN = "AUDIO_TRACK_CHOSEN"
CLIPPED = "CLIPPED"
VERY_QUIET = "VERY_QUIET"
SILENT = "SILENT"

_MAX_TOLD_PLACES = 5

NoticeFields = dict[str, object]
"""A ``careca.types.Notice`` in JSON."""


def build_notices(heard: Heard) -> list[NoticeFields]:
    """The notices of one recording: about all of it first, then by place."""
    found = []
    if heard.choice:
        found.append(_chosen(heard.choice))
    found += _level(heard)
    share = max(reader.writer.clipping.share for reader in heard.readers)
    if share:
        found.append(
            _finding(
                CLIPPED,
                f"the recording is clipped: {share:.1%} of its samples are at the limit of what it can hold, which "
                "distorts voices; record with less gain",
            )
        )
    return found + _damage(heard) + _ending(heard)


def _chosen(choice: Choice) -> NoticeFields:
    count = 1 + len(choice.silent) + len(choice.others)
    why = ""
    if choice.silent:
        why = f", since {names(choice.silent)} {'is' if len(choice.silent) == 1 else 'are'} silent"
    rest = f"; not used: {names(choice.others)}" if choice.others else ""
    return _finding(
        AUDIO_TRACK_CHOSEN,
        f"the recording has {count} audio tracks, of which {choice.taken.name} was used{why}{rest}; "
        "audio_track (--audio-track) chooses others",
    )


def _level(heard: Heard) -> list[NoticeFields]:
    sounding = [level for level in heard.levels if not level.silent]
    if not sounding:
        return [_finding(SILENT, "the recording is silent: there is no sound in it, or none that 16 bits can show")]
    if not all(level.quiet for level in sounding):
        return []
    return [_finding(VERY_QUIET, _quiet(max(level.bits for level in sounding), heard.raised_by))]


def _quiet(bits: int, raised_by: int) -> str:
    below = (FULL_BITS - bits) * DB_PER_BIT
    said = f"the recording is very quiet: its loud parts are {below:.0f} dB or more below full scale"
    if raised_by:
        return f"{said}; it was raised by {raised_by * DB_PER_BIT:.0f} dB, with all that it holds"
    return f"{said}, which leaves {bits} of 16 bits for voices; record with more gain"


def _damage(heard: Heard) -> list[NoticeFields]:
    found = []
    for reader in heard.readers:
        # What is damaged at the very end of a recording that breaks off is what broke off.
        damage = reader.damage if heard.missing == 0 else reader.damage.without_last(reader.trailing)
        if damage.parts:
            found.append(_damaged(damage, f" of {reader.track.name}" if len(heard.readers) > 1 else ""))
    return found


def _damaged(damage: Damage, of_track: str) -> NoticeFields:
    places = damage.places
    told = ", ".join(map(_where, places[:_MAX_TOLD_PLACES]))
    more = " and later" if len(places) > _MAX_TOLD_PLACES else ""
    parts = "1 damaged part" if damage.parts == 1 else f"{damage.parts} damaged parts"
    were = "was" if damage.parts == 1 else "were"
    return _finding(DAMAGED, f"{parts}{of_track} {were} skipped, at {told}{more}", places[0].start, places[-1].end)


def _where(place: Place) -> str:
    long = place.end - place.start >= 1.0
    return f"{format_time(place.start)} to {format_time(place.end)}" if long else f"about {format_time(place.start)}"


def _ending(heard: Heard) -> list[NoticeFields]:
    if heard.missing == 0:
        return []
    end = heard.end
    if heard.missing == math.inf:
        message = f"the recording breaks off after {format_time(end)}; nothing says how much is missing"
        return [_finding(TRUNCATED, message, end, end)]
    announced = end + heard.missing
    message = (
        f"the recording ends after {format_time(end)}, but should be {format_time(announced)} long: the last "
        f"{heard.missing:.1f} s are missing"
    )
    return [_finding(TRUNCATED, message, end, announced)]


def _finding(code: str, message: str, start: float | None = None, end: float | None = None) -> NoticeFields:
    return {"code": code, "message": message, "start": start, "end": end}
