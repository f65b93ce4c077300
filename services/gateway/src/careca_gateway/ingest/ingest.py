"""Recordings into the store, and out of it as audio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from careca.errors import DeadlineExceeded, InvalidRecording
from careca.types import AudioTracks
from careca_gateway.ingest.decoder import SELECTION_REASONS, Decoder, files_needed
from careca_gateway.pipeline.pipeline import StageResult
from careca_gateway.request import AudioSelection
from careca_gateway.storage.caller_limits import check_length
from careca_gateway.storage.store import DecodedAudio, HeldRecording
from careca_gateway.storage.upload import Upload


class Ingest:
    """The pipeline's first stage, and what must come before it.

    Args:
        decoder: makes audio of recordings.
        idle_seconds: how long an upload may stand still.
    """

    def __init__(self, decoder: Decoder, *, idle_seconds: float) -> None:
        self._decoder = decoder
        self._idle_seconds = idle_seconds

    async def receive(self, upload: Upload, chunks: AsyncIterator[bytes]) -> None:
        """Writes ``chunks`` as they come and then takes the recording over.

        Raises ``InvalidRequest`` where they are not what was announced, ``Overloaded`` where the disk is full, and
        ``DeadlineExceeded`` where nothing comes for too long.
        """
        while (chunk := await self._next(chunks)) is not None:
            await asyncio.to_thread(upload.write, chunk)
        await asyncio.to_thread(upload.finish)

    async def decode(
        self, recording: HeldRecording, sound: AudioSelection, emit: Callable[[float], None]
    ) -> StageResult[DecodedAudio]:
        """What that sound of the recording decodes to, decoded unless the store has it.

        A recording of which no sound can be decoded is removed. Raises as ``HeldRecording.bring`` does.
        """
        if decoded := await asyncio.to_thread(recording.stored_audio, sound):
            check_length([each.digest for each in decoded.audio])
            return StageResult(decoded, cached=True)
        await asyncio.to_thread(recording.bring)
        with recording.drafts(files_needed(sound)) as drafts:
            try:
                note = await self._decoder.decode(recording.path, sound, drafts, emit)
            except InvalidRecording as error:
                if sound.audio_track == AudioTracks.AUTO and error.reason not in SELECTION_REASONS:
                    await asyncio.to_thread(recording.discard)
                raise
            decoded = await asyncio.to_thread(recording.keep_audio, sound, drafts, note)
        check_length(note.audio)
        return StageResult(decoded, cached=False)

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        """The next chunk, ``None`` after the last."""
        try:
            async with asyncio.timeout(self._idle_seconds):
                return await anext(chunks, None)
        except TimeoutError:
            raise DeadlineExceeded(
                f"no bytes of the recording came for {self._idle_seconds:g} seconds", reason="UPLOAD_STALLED"
            ) from None
