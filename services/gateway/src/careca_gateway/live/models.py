"""The model services, for the windows of a session."""

from __future__ import annotations

import asyncio
from typing import Self

from careca.types import (
    ClusteredVoices,
    DiarizationOptions,
    DiarizedWindow,
    ReadWindow,
    Scheduling,
    TranscriptionOptions,
    VoicesToCluster,
    WindowToDiarize,
    WindowToRead,
)
from careca_gateway.backends import DiarizerClient, TranscriberClient
from careca_gateway.request import Deadline
from careca_gateway.storage.held_recording import StoredAudio


class WindowModels:
    """Both model services. See ``careca_gateway.live.session.Models``."""

    def __init__(self, transcriber: TranscriberClient, diarizer: DiarizerClient) -> None:
        self._transcriber = transcriber
        self._diarizer = diarizer

    def scheduled(self, scheduling: Scheduling) -> Self:
        """Returns the same services with another scheduling."""
        return type(self)(self._transcriber.scheduled(scheduling), self._diarizer.scheduled(scheduling))

    async def read_window(self, audio: bytes, window: WindowToRead) -> ReadWindow:
        """Returns what is said in a window."""
        return await self._transcriber.read_window(audio, window)

    async def diarize_window(self, audio: bytes, window: WindowToDiarize) -> DiarizedWindow:
        """Returns who speaks when in a window."""
        return await self._diarizer.diarize_window(audio, window)

    async def cluster_voices(self, voices: VoicesToCluster) -> ClusteredVoices:
        """Returns which pieces of speech have the same voice."""
        return await self._diarizer.cluster_voices(voices)

    async def prepare(
        self,
        audio: StoredAudio,
        transcription: TranscriptionOptions,
        diarization: DiarizationOptions,
        deadline: Deadline,
    ) -> None:
        """Has both services compute what a recording needs that begins with ``audio``."""
        await asyncio.gather(
            self._transcriber.prepare(audio, transcription, deadline),
            self._diarizer.prepare(audio, diarization, deadline),
        )
