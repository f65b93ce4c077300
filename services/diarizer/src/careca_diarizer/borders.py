"""Borders: turns follow the level of the sound, which is finer than what the segmentation model hears. Pure.

The model is unsure about the soft beginnings and ends of words. What is far louder than the background next to a turn,
while nobody else speaks, belongs to it; what is as quiet as the background is no speech. The background is what is left
in the quietest moments around. Where nothing is far louder than these (music, a crowd), no turn is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d

from careca.audio import Audio
from careca.types import SAMPLE_RATE, Turn
from careca_diarizer.reconstruction import LONGEST_GAP_SECONDS, joined
from careca_diarizer.stitching import runs_of

_FRAME_SAMPLES = SAMPLE_RATE // 100
_FRAMES_PER_SECOND = SAMPLE_RATE // _FRAME_SAMPLES
_SMOOTHED_FRAMES = 3
_BLOCK_FRAMES = 60 * _FRAMES_PER_SECOND
"""Frames whose level is computed at once, which bounds the memory for it."""

_NOTHING_DB = -99.0
"""Digital silence, which a recorder, a cut or a codec makes, says nothing about the background."""

_BACKGROUND_PERCENTILE = 5
_BACKGROUND_SECONDS = 10
"""The background of a moment is the level that this share of the time is not exceeded, so far before and after it."""

_QUIET_DB = 3.0
"""Above the background, up to which there is nothing but background."""

_LOUD_DB = 25.0
"""Above the background, from which on a sound next to a turn belongs to it. So much must speech be louder than the
background for silence to be told by its level."""

_REACH_SECONDS = 0.5
"""How far a turn may be prolonged."""

Levels = npt.NDArray[np.float32]


def follow_level(turns: Sequence[Turn], audio: Audio) -> tuple[Turn, ...]:
    """The turns by start, prolonged by what is loud next to them and without what is silent in them."""
    if not turns:
        return ()
    level = _levels(audio)
    background, loudest = _surroundings(level)
    silent = (level <= background + _QUIET_DB) & (loudest >= background + _LOUD_DB) | (level <= _NOTHING_DB)
    loud = level > background + _LOUD_DB
    depth = _depth(turns, len(level))
    followed: list[Turn] = []
    for turn in turns:
        start, end = _frames(turn, len(level))
        before, after = _reach(loud[:start][::-1], depth[:start][::-1]), _reach(loud[end:], depth[end:])
        depth[start - before : start] += 1  # what one turn has taken is not another's
        depth[end : end + after] += 1
        spans = [
            (start - before, start),
            *(
                (start + begin, start + finish)
                for begin, finish in runs_of(~silent[start:end] | (depth[start:end] > 1))
            ),
            (end, end + after),
        ]
        followed += [
            Turn(begin / _FRAMES_PER_SECOND, min(finish / _FRAMES_PER_SECOND, audio.duration), turn.speaker)
            for begin, finish in spans
            if begin < finish
        ]
    found = joined(followed)
    # Nobody is lost who speaks no louder than the background.
    lost = {turn.speaker for turn in turns} - {turn.speaker for turn in found}
    return joined([*found, *(turn for turn in turns if turn.speaker in lost)])


def _levels(audio: Audio) -> Levels:
    """Decibels of each 10 ms, smoothed a little: shape (frames,)."""
    frames = -(-len(audio.samples) // _FRAME_SAMPLES)
    power = np.zeros(frames, dtype=np.float32)
    for first in range(0, frames, _BLOCK_FRAMES):
        block = audio.float32(first * _FRAME_SAMPLES, (first + _BLOCK_FRAMES) * _FRAME_SAMPLES)
        padded = np.pad(block, (0, -len(block) % _FRAME_SAMPLES)).reshape(-1, _FRAME_SAMPLES)
        power[first : first + len(padded)] = np.mean(np.square(padded), axis=1)
    smoothed = uniform_filter1d(power, _SMOOTHED_FRAMES, mode="nearest")
    levels: Levels = (10 * np.log10(np.maximum(smoothed, 1e-10))).astype(np.float32)
    return levels


def _surroundings(level: Levels) -> tuple[Levels, Levels]:
    """Decibels of the background and of the loudest around each frame: both of shape (frames,)."""
    around = _BACKGROUND_SECONDS * _FRAMES_PER_SECOND
    centres = np.arange(0, len(level) + _FRAMES_PER_SECOND, _FRAMES_PER_SECOND)
    found = [_range(level[max(0, centre - around) : centre + around]) for centre in centres.tolist()]
    background, loudest = (np.interp(np.arange(len(level)), centres, values) for values in zip(*found, strict=True))
    return background.astype(np.float32), loudest.astype(np.float32)


def _range(level: Levels) -> tuple[float, float]:
    sounding = level[level > _NOTHING_DB]
    if not len(sounding):
        return _NOTHING_DB, _NOTHING_DB
    least, most = np.percentile(sounding, (_BACKGROUND_PERCENTILE, 100 - _BACKGROUND_PERCENTILE))
    return float(least), float(most)


def _depth(turns: Iterable[Turn], frames: int) -> npt.NDArray[np.int16]:
    """How many speak in each frame: shape (frames,)."""
    changes = np.zeros(frames + 1, dtype=np.int16)
    for turn in turns:
        start, end = _frames(turn, frames)
        changes[start] += 1
        changes[end] -= 1
    return np.cumsum(changes[:-1], dtype=np.int16)


def _frames(turn: Turn, frames: int) -> tuple[int, int]:
    start, end = round(turn.start * _FRAMES_PER_SECOND), round(turn.end * _FRAMES_PER_SECOND)
    return min(start, frames), min(end, frames)


def _reach(loud: npt.NDArray[np.bool_], depth: npt.NDArray[np.int16]) -> int:
    """Frames up to the last loud one within reach, before a pause and before anybody speaks."""
    reach = round(_REACH_SECONDS * _FRAMES_PER_SECOND)
    taken = np.flatnonzero(depth[:reach])
    places = np.flatnonzero(loud[: taken[0] if len(taken) else reach])
    paused = np.flatnonzero(np.diff(places, prepend=-1) > LONGEST_GAP_SECONDS * _FRAMES_PER_SECOND)
    places = places[: paused[0] if len(paused) else None]
    return int(places[-1]) + 1 if len(places) else 0
