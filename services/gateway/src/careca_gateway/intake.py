"""Recordings into the store, and out of it as audio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from careca.errors import DeadlineExceeded, InvalidRecording
from careca.types import ChannelMode
from careca_gateway.allowance import check_length
from careca_gateway.decode import MAX_CHANNELS, MIXABLE_REASONS, Decoder
from careca_gateway.pipeline import Finished
from careca_gateway.store import HeldRecording, StoredAudio
from careca_gateway.upload import Upload


class Intake:
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
        self, recording: HeldRecording, mode: ChannelMode, emit: Callable[[float], None]
    ) -> Finished[tuple[StoredAudio, ...]]:
        """The recording's audio, decoded unless the store has it: one, or one for each channel if they are separate.

        A recording that cannot be decoded in any mode is removed. Raises as ``HeldRecording.bring`` does.
        """
        if audio := await asyncio.to_thread(recording.stored_audio, mode):
            check_length([each.digest for each in audio])
            return Finished(audio, cached=True)
        await asyncio.to_thread(recording.bring)
        with recording.drafts(MAX_CHANNELS if mode is ChannelMode.SEPARATE else 1) as drafts:
            try:
                digests = await self._decoder.decode(recording.path, mode, drafts, emit)
            except InvalidRecording as error:
                if error.reason not in MIXABLE_REASONS:
                    await asyncio.to_thread(recording.discard)
                raise
            audio = await asyncio.to_thread(recording.keep_audio, mode, drafts, digests)
        check_length(digests)
        return Finished(audio, cached=False)

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        """The next chunk, ``None`` after the last."""
        try:
            async with asyncio.timeout(self._idle_seconds):
                return await anext(chunks, None)
        except TimeoutError:
            raise DeadlineExceeded(
                f"no bytes of the recording came for {self._idle_seconds:g} seconds", reason="UPLOAD_STALLED"
            ) from None
