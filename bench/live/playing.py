"""Plays a recording to a live session at the speed of time, and notes what is shown when."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from careca.types import SAMPLE_BYTES, SAMPLE_RATE, Word
from careca_client import AsyncClient
from careca_client.live import LiveEnded, LiveFinal, LiveInterim, LiveResult, SpeakerCorrection
from careca_client.result import TranscriptionResult

PIECE_SECONDS = 0.1
"""Audio in a message, as a microphone sends it."""


@dataclass(slots=True)
class Shown:
    """What a person sees at one moment."""

    at: float
    """Seconds since the first sample was spoken."""
    final_words: int
    """How many final words there are."""
    interim: tuple[str, ...] = ()
    """The words after them."""


@dataclass(slots=True)
class Playing:
    """One session."""

    words: list[Word] = field(default_factory=list)
    """The final words, with the speakers as they were first told."""
    told: list[float] = field(default_factory=list)
    """When each of them became final, in seconds since the first sample was spoken."""
    shown: list[Shown] = field(default_factory=list)
    behind: list[tuple[float, float]] = field(default_factory=list)
    """Seconds of audio that the session was behind, and when."""
    corrected_words: int = 0
    ended: float = 0.0
    """When the caller said that the audio had ended."""
    result_at: float = 0.0
    result: TranscriptionResult | None = None


def settings_for(sessions: int) -> dict[str, str]:
    """Returns settings of a gateway at which one caller may have so many sessions at once, and the jobs of them."""
    names = ("MAX_LIVE_SESSIONS", "MAX_LIVE_SESSIONS_PER_SUBMITTER", "MAX_QUEUED_JOBS_PER_SUBMITTER")
    return {f"CARECA_{name}": str(2 * sessions) for name in names}


async def play(
    client: AsyncClient, samples: npt.NDArray[np.int16], *, delay: float = 0.0, language: str | None = None
) -> Playing:
    """Plays ``samples``, 16 kHz mono of shape (samples,), after ``delay`` seconds. Returns what was shown."""
    await asyncio.sleep(delay)
    playing = Playing()
    data = samples.tobytes()
    size = round(PIECE_SECONDS * SAMPLE_RATE) * SAMPLE_BYTES
    async with client.live(language=language) as session:
        began = time.monotonic()

        async def speak() -> None:
            for position in range(0, len(data), size):
                piece = data[position : position + size]
                # A piece can be sent once its last sample has been spoken.
                spoken = (position + len(piece)) / SAMPLE_BYTES / SAMPLE_RATE
                await asyncio.sleep(max(0.0, began + spoken - time.monotonic()))
                await session.send(piece)
            await session.end()
            playing.ended = time.monotonic() - began

        speaking = asyncio.create_task(speak())
        try:
            async for event in session:
                now = time.monotonic() - began
                match event:
                    case LiveFinal(words=words):
                        playing.words += words
                        playing.told += [now] * len(words)
                        playing.shown.append(Shown(now, len(playing.words)))
                    case LiveInterim(words=words):
                        interim = tuple(word.text for word in words)
                        playing.shown.append(Shown(now, len(playing.words), interim))
                        playing.behind.append((now, event.behind_seconds))
                    case SpeakerCorrection(word_count=count):
                        playing.corrected_words += count
                    case LiveResult(result=result):
                        playing.result, playing.result_at = result, now
                    case LiveEnded():
                        pass
            await speaking
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)  # its error is that of the session
    return playing
