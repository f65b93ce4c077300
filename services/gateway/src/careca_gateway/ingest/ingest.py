"""Receives recordings into the store, and decodes them: the pipeline's first stage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from careca.errors import DeadlineExceeded, InvalidRecording
from careca.types import AudioTracks
from careca_gateway.ingest.decoder import SELECTION_REASONS, Decoder, files_needed
from careca_gateway.pipeline.port import StageResult
from careca_gateway.request import AudioSelection
from careca_gateway.storage.caller_limits import check_length
from careca_gateway.storage.held_recording import DecodedAudio, HeldRecording
from careca_gateway.storage.upload import Upload


class Ingest:
    """Receives and decodes recordings.

    Args:
        decoder: decodes recordings.
        idle_seconds: how long an upload may send nothing.
    """

    def __init__(self, decoder: Decoder, *, idle_seconds: float) -> None:
        self._decoder = decoder
        self._idle_seconds = idle_seconds

    async def receive(self, upload: Upload, chunks: AsyncIterator[bytes]) -> None:
        """Writes ``chunks`` as they arrive and completes the upload.

        Raises ``InvalidRequest`` if the bytes differ from what was announced, ``Overloaded`` if the disk is full, and
        ``DeadlineExceeded`` if nothing arrives for too long.
        """
        while (chunk := await self._next(chunks)) is not None:
            await asyncio.to_thread(upload.write, chunk)
        await asyncio.to_thread(upload.finish)

    async def decode(
        self, recording: HeldRecording, selection: AudioSelection, emit: Callable[[float], None]
    ) -> StageResult[DecodedAudio]:
        """Returns the audio of the selection. Decodes it unless the store has it.

        Removes a recording that cannot be decoded with any selection. Raises as ``HeldRecording.fetch`` does.
        """
        if decoded := await asyncio.to_thread(recording.stored_audio, selection):
            check_length([each.digest for each in decoded.audio])
            return StageResult(decoded, cached=True)
        await asyncio.to_thread(recording.fetch)
        with recording.drafts(files_needed(selection)) as drafts:
            try:
                record = await self._decoder.decode(recording.path, selection, drafts, emit)
            except InvalidRecording as error:
                if selection.audio_track == AudioTracks.AUTO and error.reason not in SELECTION_REASONS:
                    await asyncio.to_thread(recording.discard)
                raise
            decoded = await asyncio.to_thread(recording.store_audio, selection, drafts, record)
        check_length(record.audio)
        return StageResult(decoded, cached=False)

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        """Returns the next chunk, ``None`` after the last one."""
        try:
            async with asyncio.timeout(self._idle_seconds):
                return await anext(chunks, None)
        except TimeoutError:
            raise DeadlineExceeded(
                f"no bytes of the recording arrived for {self._idle_seconds:g} seconds", reason="UPLOAD_STALLED"
            ) from None
