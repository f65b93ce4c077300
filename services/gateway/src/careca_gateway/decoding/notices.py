"""Notices about a decoded recording: see docs/notices.md and docs/decoding.md."""

from __future__ import annotations

import math

from careca.formatting import format_time
from careca_gateway.decoding.level import DB_PER_BIT, FULL_BITS
from careca_gateway.decoding.passes import DecodedRecording, TrackChoice
from careca_gateway.decoding.track_reader import Damage, DamagedSpan
from careca_gateway.decoding.tracks import join_names

# The codes of careca.types.NoticeCode, which is not imported because it would make each process start slower.
TRUNCATED = "TRUNCATED"
DAMAGED = "DAMAGED"
AUDIO_TRACK_CHOSEN = "AUDIO_TRACK_CHOSEN"
CLIPPED = "CLIPPED"
VERY_QUIET = "VERY_QUIET"
SILENT = "SILENT"

_MAX_LISTED_PLACES = 5

NoticeFields = dict[str, object]
"""A ``careca.types.Notice`` in JSON."""


def build_notices(decoded: DecodedRecording) -> list[NoticeFields]:
    """Returns the notices about a recording: those about the whole recording first, then by time."""
    found = []
    if decoded.choice:
        found.append(_track_chosen(decoded.choice))
    found += _level(decoded)
    share = max(reader.writer.clipping.share for reader in decoded.readers)
    if share:
        found.append(
            _notice(
                CLIPPED,
                f"the recording is clipped: {share:.1%} of its samples are at the limit of what it can hold, which "
                "distorts voices; record with less gain",
            )
        )
    return found + _damage(decoded) + _ending(decoded)


def _track_chosen(choice: TrackChoice) -> NoticeFields:
    count = 1 + len(choice.silent) + len(choice.others)
    why = ""
    if choice.silent:
        why = f", since {join_names(choice.silent)} {'is' if len(choice.silent) == 1 else 'are'} silent"
    rest = f"; not used: {join_names(choice.others)}" if choice.others else ""
    return _notice(
        AUDIO_TRACK_CHOSEN,
        f"the recording has {count} audio tracks, of which {choice.taken.name} was used{why}{rest}; "
        "audio_track (--audio-track) chooses others",
    )


def _level(decoded: DecodedRecording) -> list[NoticeFields]:
    has_sound = [level for level in decoded.levels if not level.silent]
    if not has_sound:
        return [_notice(SILENT, "the recording is silent: there is no sound in it, or none that 16 bits can show")]
    if not all(level.quiet for level in has_sound):
        return []
    return [_notice(VERY_QUIET, _quiet(max(level.bits for level in has_sound), decoded.gain_bits))]


def _quiet(bits: int, gain_bits: int) -> str:
    below = (FULL_BITS - bits) * DB_PER_BIT
    said = f"the recording is very quiet: its loud parts are {below:.0f} dB or more below full scale"
    if gain_bits:
        return f"{said}; it was raised by {gain_bits * DB_PER_BIT:.0f} dB, with all that it holds"
    return f"{said}, which leaves {bits} of 16 bits for voices; record with more gain"


def _damage(decoded: DecodedRecording) -> list[NoticeFields]:
    found = []
    for reader in decoded.readers:
        # If a recording is truncated, damage at its very end belongs to the truncation.
        damage = reader.damage if decoded.missing == 0 else reader.damage.without_last(reader.trailing)
        if damage.parts:
            found.append(_damaged(damage, f" of {reader.track.name}" if len(decoded.readers) > 1 else ""))
    return found


def _damaged(damage: Damage, of_track: str) -> NoticeFields:
    places = damage.places
    listed = ", ".join(map(_where, places[:_MAX_LISTED_PLACES]))
    more = " and later" if len(places) > _MAX_LISTED_PLACES else ""
    parts = "1 damaged part" if damage.parts == 1 else f"{damage.parts} damaged parts"
    were = "was" if damage.parts == 1 else "were"
    return _notice(DAMAGED, f"{parts}{of_track} {were} skipped, at {listed}{more}", places[0].start, places[-1].end)


def _where(place: DamagedSpan) -> str:
    long = place.end - place.start >= 1.0
    return f"{format_time(place.start)} to {format_time(place.end)}" if long else f"about {format_time(place.start)}"


def _ending(decoded: DecodedRecording) -> list[NoticeFields]:
    if decoded.missing == 0:
        return []
    end = decoded.end
    if decoded.missing == math.inf:
        message = f"the recording breaks off after {format_time(end)}; nothing says how much is missing"
        return [_notice(TRUNCATED, message, end, end)]
    announced = end + decoded.missing
    message = (
        f"the recording ends after {format_time(end)}, but should be {format_time(announced)} long: the last "
        f"{decoded.missing:.1f} s are missing"
    )
    return [_notice(TRUNCATED, message, end, announced)]


def _notice(code: str, message: str, start: float | None = None, end: float | None = None) -> NoticeFields:
    return {"code": code, "message": message, "start": start, "end": end}
